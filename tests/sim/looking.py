"""Whoever only looks, at any moment, at status and events: it never fails, waits for no drive, and says what is so."""

from __future__ import annotations

import trio

from ecfs.control.status import HEALTHY, Healing, build_status
from tests.sim.healing import NOTICED_WITHIN_S, check_ledger
from tests.sim.history import Violation
from tests.sim.steps import Step
from tests.sim.world import Mount, World


class Looking:
    """The steps that ask."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def do(self, step: Step, mount: Mount) -> None:
        self._status(mount)
        if step.a % 4 == 0:
            await self._absence(mount)

    def _status(self, mount: Mount) -> str:
        healer, engine = mount.healer, mount.engine
        healing = Healing(
            healer.running, healer.kind, healer.repaired, healer.quick_pending, len(healer.set_aside),
            healer.scrubbing.kept(), healer.replacing,
        )  # fmt: skip
        status = build_status(engine.pool, usable=engine.usable(), engine=engine, healing=healing)
        numbers = [event.number for event in engine.committer.events.newest(50)]
        if numbers != sorted(set(numbers)):
            raise Violation(f"events are out of order: {numbers}")
        if status["state"] == HEALTHY:
            check_ledger(self.world, mount)
        return str(status["state"])

    async def _absence(self, mount: Mount) -> None:
        """A drive that does not answer shows within 2 s, without any I/O by programs."""
        away = {place for place in self.world.places if not self.world.stores[place].reachable}
        await trio.sleep(NOTICED_WITHIN_S)
        away &= {place for place in self.world.places if not self.world.stores[place].reachable}
        state = self._status(mount)
        if away and state == HEALTHY:
            raise Violation(f"places {away} don't answer, and the status says that all is well")
