"""The erasure code: layout, every pattern of losses, and the facts about the library that the design relies on."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyeclib.ec_iface import ECDriver

from ecfs import codec as codec_module
from ecfs.codec import CODE_NAME, Codec, golden_payload, isa_l, self_test
from ecfs.errors import EcfsError
from ecfs.geometry import FRAGMENT_HEADER

SHAPES = [(2, 1), (4, 2), (8, 3)]
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 1000, 12345, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 4 << 20]


def data_of(fragments: list[bytes]) -> list[bytes]:
    return [fragment[FRAGMENT_HEADER:] for fragment in fragments]


# ---- encode -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_data_fragments_are_the_payload_cut_and_padded(k, m, length):
    payload = os.urandom(length)
    fragments = data_of(Codec(k, m).encode(payload))
    size = -(-length // k)
    assert [len(fragment) for fragment in fragments] == [size] * (k + m)
    assert b"".join(fragments[:k]) == payload.ljust(k * size, b"\0")


def test_an_empty_payload_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Codec(4, 2).encode(b"")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_only_bytes_reach_the_library(kind):
    """A memoryview would abort the process inside of it."""
    with pytest.raises(TypeError, match="must be bytes"):
        Codec(4, 2).encode(kind(b"payload"))


@pytest.mark.parametrize("library", ["ISA-L", "pyeclib"])
@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [*LENGTHS, 8 * 64 * 1024, 24 * 64 * 1024])
def test_cutting_gives_what_encoding_gives(k, m, length, library, monkeypatch):
    if library == "pyeclib":
        monkeypatch.setattr(isa_l, "parity", lambda k, m: None)
    payload = os.urandom(length)
    assert [b"".join(fragment) for fragment in Codec(k, m).cut(payload)] == Codec(k, m).encode(payload)


def test_a_payload_that_needs_no_padding_is_not_copied():
    payload = os.urandom(4 << 20)
    data = [fragment.data for fragment in Codec(4, 2).cut(payload)]
    assert all(isinstance(view, memoryview) and view.obj is payload for view in data[:4])


def test_an_empty_payload_is_not_cut():
    with pytest.raises(ValueError, match="empty"):
        Codec(4, 2).cut(b"")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_only_bytes_are_cut(kind):
    """The library is given an address: what can change or be let go must not lie there."""
    with pytest.raises(TypeError):
        Codec(4, 2).cut(kind(bytes(4 << 20)))


@pytest.mark.parametrize("library", ["ISA-L", "pyeclib"])
@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [1, 12345, 65536, 1 << 20])
def test_whatever_is_lost_is_restored(k, m, length, library, monkeypatch):
    if library == "pyeclib":
        monkeypatch.setattr(isa_l, "recovery", lambda k, m, given, lost: None)
    codec = Codec(k, m)
    fragments = codec.encode(os.urandom(length))
    for kept in itertools.islice(itertools.permutations(range(k + m), k), 0, None, 97):
        others = [index for index in range(k + m) if index not in kept]
        given = {index: b"x" * FRAGMENT_HEADER + fragments[index][FRAGMENT_HEADER:] for index in kept}
        for wanted in (others, others[:1], [], list(range(k + m))):
            restored = codec.restore(given, length, wanted)
            assert restored == {index: fragments[index] for index in wanted}


@pytest.mark.parametrize(("sources", "targets"), [(3, 2), (4, 1), (5, 2)])
def test_other_buffers_than_the_matrix_has_are_refused(sources, targets):
    matrix = isa_l.parity(4, 2)
    assert matrix is not None
    with pytest.raises(ValueError, match="2 rows of 4"):
        matrix.apply(4, [(b"four", 0)] * sources, [(bytearray(4), 0)] * targets)


@pytest.mark.parametrize(("size", "offset"), [(5, 0), (4, 1), (4, -1)])
def test_the_library_never_reads_beyond_a_buffer(size, offset):
    matrix = isa_l.parity(4, 2)
    assert matrix is not None
    with pytest.raises(ValueError, match="too short"):
        matrix.apply(size, [(b"four", offset)] * 4, [(bytearray(9), 0)] * 2)
    with pytest.raises(ValueError, match="too short"):
        matrix.apply(size, [(b"four, five", 2)] * 4, [(bytearray(4), offset)] * 2)


@pytest.mark.parametrize("library", [None, "libc.so.6", "no-such-library.so"])
def test_without_its_functions_the_library_is_left_alone(library, monkeypatch):
    monkeypatch.setattr(isa_l, "_loaded", lambda: library)
    assert isa_l._library.__wrapped__() is None


@pytest.mark.parametrize(("k", "m"), SHAPES)
def test_parity_is_that_of_a_cauchy_matrix_computed_by_hand(k, m):
    """What a rescue program without the library computes: parity row i, column j = 1 / (i xor j) in GF(2^8)/0x11d."""
    exponent = [1]
    for _ in range(254):
        doubled = exponent[-1] << 1
        exponent.append(doubled ^ 0x11D if doubled & 0x100 else doubled)
    logarithm = {value: power for power, value in enumerate(exponent)}
    fragments = data_of(Codec(k, m).encode(golden_payload()))
    for row in range(k, k + m):
        parity = bytearray(len(fragments[0]))
        for column in range(k):
            factor = -logarithm[row ^ column]
            products = bytes(exponent[(factor + logarithm[b]) % 255] if b else 0 for b in range(256))
            parity = bytearray(a ^ b for a, b in zip(parity, fragments[column].translate(products), strict=True))
        assert bytes(parity) == fragments[row]


# ---- rebuild ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [1, 9, 12345])
def test_every_k_fragments_give_back_every_other(k, m, length):
    codec = Codec(k, m)
    fragments = data_of(codec.encode(os.urandom(length)))
    for kept in itertools.combinations(range(codec.n), k):
        rebuilt = codec.rebuild({index: fragments[index] for index in kept}, len(fragments[0]), range(codec.n))
        assert [rebuilt[index] for index in range(codec.n)] == fragments


@given(st.data())
def test_any_run_of_bytes_can_be_rebuilt_alone(data):
    k, m = data.draw(st.sampled_from(SHAPES))
    codec = Codec(k, m)
    payload = data.draw(st.binary(min_size=1, max_size=3000))
    fragments = data_of(codec.encode(payload))
    start = data.draw(st.integers(0, len(fragments[0]) - 1))
    end = data.draw(st.integers(start + 1, len(fragments[0])))
    order = data.draw(st.permutations(range(codec.n)))
    runs = {index: memoryview(fragments[index])[start:end] for index in order[:k]}
    rebuilt = codec.rebuild(runs, end - start, order[k:])
    assert rebuilt == {index: fragments[index][start:end] for index in order[k:]}
    assert all(type(run) is bytes for run in rebuilt.values())


def test_what_is_wanted_and_given_is_handed_back():
    codec = Codec(4, 2)
    fragments = data_of(codec.encode(b"a known payload"))
    runs = {index: fragments[index] for index in (0, 1, 2, 5)}
    assert codec.rebuild(runs, len(fragments[0]), [2, 2, 0]) == {2: fragments[2], 0: fragments[0]}
    assert codec.rebuild(runs, len(fragments[0]), []) == {}


@pytest.mark.parametrize(
    ("given_indexes", "length", "wanted"),
    [
        ((0, 1, 2), 4, [3]),  # too few
        ((0, 1, 2, 3, 4), 4, [5]),  # more than the k that count
        ((0, 1, 2, 3), 5, [4]),  # other lengths
        ((0, 1, 2, 3), 4, [6]),  # no such fragment
        ((0, 1, 2, 3), 4, [-1]),
        ((0, 1, 2, 6), 4, [3]),
    ],
)
def test_wrong_inputs_of_rebuild_are_refused(given_indexes, length, wanted):
    with pytest.raises(ValueError, match=r"need 4 runs|no such fragments"):
        Codec(4, 2).rebuild(dict.fromkeys(given_indexes, b"four"), length, wanted)


def test_empty_runs_are_refused():
    with pytest.raises(ValueError, match="need 4 runs"):
        Codec(4, 2).rebuild(dict.fromkeys(range(4), b""), 0, [4])


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [1, 1000, 65537])
def test_fragment_headers_depend_on_the_payloads_length_alone(k, m, length):
    fragments = Codec(k, m).encode(os.urandom(length))
    assert [fragment[:FRAGMENT_HEADER] for fragment in fragments] == list(Codec(k, m).fragment_headers(length))


# ---- refusing to start ------------------------------------------------------------------------------------


class Wrong:
    """A matrix that computes zeros."""

    def apply(self, size, sources, targets):
        return


def test_self_test_passes():
    self_test()


@pytest.mark.parametrize("shape", SHAPES)
def test_self_test_refuses_a_library_that_computes_another_code(shape, monkeypatch):
    monkeypatch.setitem(codec_module._GOLDEN, shape, "00" * 16)
    with pytest.raises(EcfsError, match="other parity than it must; not starting"):
        self_test()


def test_self_test_refuses_a_library_that_rebuilds_wrong(monkeypatch):
    right = Codec._reconstruct_one

    def wrong(self, sources, header, index):
        fragment = right(self, sources, header, index)
        return fragment[:-1] + bytes([fragment[-1] ^ 1]) if index == 5 else fragment

    monkeypatch.setattr(Codec, "_reconstruct_one", wrong)
    with pytest.raises(EcfsError, match=r"can't rebuild .*; not starting"):
        self_test()


def test_self_test_refuses_other_parity_of_the_library_below(monkeypatch):
    monkeypatch.setattr(isa_l, "parity", lambda k, m: Wrong())
    with pytest.raises(EcfsError, match="ISA-L computes other parity"):
        self_test()


def test_self_test_refuses_a_library_below_that_restores_wrong(monkeypatch):
    monkeypatch.setattr(isa_l, "recovery", lambda k, m, given, lost: Wrong())
    with pytest.raises(EcfsError, match="ISA-L can't restore"):
        self_test()


def test_a_code_that_the_library_does_not_have_is_an_error_of_ours(monkeypatch):
    monkeypatch.setattr(codec_module, "CODE_NAME", "no_such_code")
    with pytest.raises(EcfsError, match="not available"):
        codec_module._driver.__wrapped__(4, 2)


# ---- facts about the library ------------------------------------------------------------------------------


def test_the_library_gives_wrong_data_for_a_damaged_fragment_without_an_error():
    """The reason why every input is verified first. If this ever fails, the library got better: read the docstring."""
    driver = ECDriver(k=4, m=2, ec_type=CODE_NAME, chksum_type="none")
    payload = os.urandom(4000)
    fragments = driver.encode(payload)
    damaged = bytearray(fragments[1])
    damaged[500] ^= 1
    assert driver.decode([fragments[0], bytes(damaged), fragments[3], fragments[4]]) != payload
