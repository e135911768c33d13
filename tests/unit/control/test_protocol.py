"""Lines of the control socket, and what errors become on the way."""

from __future__ import annotations

import pytest

from ecfs.control.failure import expected, leaves
from ecfs.control.protocol import RemoteError, error_line, line, read_answer, read_request
from ecfs.errors import NotEnoughDrivesError, UsageError


def test_a_request_is_read() -> None:
    request = read_request(b'{"ecfs": 1, "method": "status", "later": "ignored"}')
    assert (request.method, request.params) == ("status", {})


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b'{"ecfs": 2, "method": "x"}', b'{"ecfs": 1, "method": 5}', b"[" * 100_000, b"\xff"]
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        read_request(data)


def test_results_and_progress_come_back() -> None:
    assert read_answer(line("result", {"a": [1, None]})) == ("result", {"a": [1, None]})
    assert read_answer(line("progress", 5)) == ("progress", 5)


def test_an_error_keeps_its_text_kind_and_exit_status() -> None:
    with pytest.raises(RemoteError, match="too few") as caught:
        read_answer(error_line(NotEnoughDrivesError("too few")))
    assert (caught.value.kind, caught.value.exit_status) == ("NotEnoughDrivesError", 3)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"other": 1}', b"[]"])
def test_an_answer_that_is_none_is_said_so(data: bytes) -> None:
    with pytest.raises(UsageError, match="not understood"):
        read_answer(data)


def test_our_error_is_found_in_groups() -> None:
    ours = UsageError("x")
    group = ExceptionGroup("a", [ExceptionGroup("b", [ours]), NotEnoughDrivesError("y")])
    assert expected(group) is ours
    assert expected(ours) is ours
    assert len(list(leaves(group))) == 2


def test_what_was_not_foreseen_is_never_hidden_behind_ours() -> None:
    assert expected(ExceptionGroup("a", [UsageError("x"), ValueError("bug")])) is None
    assert expected(ValueError("bug")) is None
