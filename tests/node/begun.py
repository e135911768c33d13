"""Operations of a node's drive that are begun and waited for, as a commit does it."""

from __future__ import annotations

import trio

from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.node import NodeDrive

SEGMENT = "j/00000002.000000"


def begin_append(drive: NodeDrive, offset: int, record: bytes, gathering: Gathering, segment: str = SEGMENT) -> Begun:
    begun = drive.begin_append(segment, offset, record, gathering)
    assert begun is not None
    return begun


async def finish(gathering: Gathering, begun: Begun) -> None:
    """Raises what the operation raises."""
    with trio.fail_after(20):
        await gathering.wait()
    begun.result()


async def append(drive: NodeDrive, offset: int, record: bytes, segment: str = SEGMENT) -> None:
    gathering = Gathering()
    await finish(gathering, begin_append(drive, offset, record, gathering, segment))
