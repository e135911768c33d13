"""Every error crosses the wire as itself; every foreign status means something, and never anything about a key."""

from __future__ import annotations

import grpc
import pytest

from ecfs import errors
from ecfs.errors import DriveError, DriveTimeoutError, DriveUnreachableError, DriveWrongError, EcfsError
from ecfs.rpc.status import BUSY, CODES, MARK, NodeBusyError, code_of, error_of


def every_drive_error() -> list[type[DriveError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DriveError)]
    return [kind for kind in found if kind is not DriveError]


def test_every_error_of_a_drive_has_a_status() -> None:
    assert set(every_drive_error()) | {errors.UsageError, errors.FormatTooNewError} == set(CODES)


@pytest.mark.parametrize("kind", CODES)
def test_an_error_arrives_as_itself(kind: type[EcfsError]) -> None:
    name, code, text = code_of(kind("what happened"))
    error = error_of(code, text, [("other", "x"), (MARK, name)])
    assert type(error) is kind
    assert error.args[0] == "what happened"


def test_an_error_that_is_not_in_the_table_counts_as_unreachable() -> None:
    name, code, _ = code_of(errors.CorruptError("odd"))
    assert (name, code) == ("DriveUnreachableError", grpc.StatusCode.FAILED_PRECONDITION)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
@pytest.mark.parametrize(
    "metadata", [None, [], [(MARK, "NoSuchError")], [("x-bin", b"\0")], [(MARK, b"ShardMissingError")]]
)
def test_what_no_node_has_said_is_about_the_drive(
    code: grpc.StatusCode, metadata: list[tuple[str, str | bytes]]
) -> None:
    error = error_of(code, "some detail", metadata)
    assert isinstance(error, DriveUnreachableError | DriveWrongError)
    assert isinstance(error, DriveTimeoutError) == (code is grpc.StatusCode.DEADLINE_EXCEEDED)
    assert "some detail" in str(error)


def test_a_busy_node_is_told_apart() -> None:
    assert isinstance(error_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "", [(MARK, BUSY)]), NodeBusyError)


def test_texts_are_bounded() -> None:
    assert len(str(error_of(grpc.StatusCode.UNKNOWN, "x" * 100_000, None))) < 500
    assert len(code_of(errors.UsageError("x" * 100_000))[2]) == 1000
