"""The simulated drive in the contract suite: without weather it is a drive like any other."""

from __future__ import annotations

from random import Random

from ecfs.drive.base import Drive
from tests.contract.places import MemoryPlace
from tests.sim.drive import SimDrive, Weather
from tests.sim.store import SimStore


class SimPlace(MemoryPlace):
    """As a MemoryPlace, by way of a SimDrive."""

    def __init__(self) -> None:
        super().__init__(lockable=True)
        self.medium = SimStore()
        self.store = self.medium
        self.weather = Weather(Random(0))

    async def kill(self, drive: Drive) -> None:
        self.medium.killed()
        await drive.close()

    def open_bare(self) -> Drive:
        return SimDrive(self.medium, self.weather, 0, slot=3, on_operation=self._hook)
