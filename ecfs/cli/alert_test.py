"""`ecfs alert-test`: run the on_event command once, to see that it reaches you."""

from __future__ import annotations

import click

ANSWER_S = 700.0
"""More than the longest time that the command may have."""


@click.command()
@click.argument("pool", required=False)
def command(pool: str | None) -> int:
    """Run the command that pool.toml names as on_event, with an event of kind "test". Nothing else happens.

    On a mounted pool the daemon runs it, with its rights, as it does for a real event. POOL is a pool or a mount point;
    by default the mounted pool, or ./drives.
    """
    failure = _failure(pool)
    click.echo(f"failed: {failure}" if failure else "The command was run and succeeded.")
    return 1 if failure else 0


def _failure(pool: str | None) -> str:
    import trio

    from ecfs.clock import SystemClock
    from ecfs.control.client import call
    from ecfs.control.hook_command import run_hook
    from ecfs.errors import UsageError
    from ecfs.mount.alerts import UNMOUNTED, command_of, test_event
    from ecfs.mount.locate import find_target

    target = find_target(pool)
    if target.mounted is not None:
        return str(call(target.mounted, "alert_test", {}, timeout_s=ANSWER_S)["failure"])
    hook = command_of(target.pool_file)
    if hook is None:
        raise UsageError(f'{target.pool_file.path} names no command: write [alerts] and on_event = "/path/to/command"')
    facts = {**test_event(SystemClock()), "pool": target.name, "mountpoint": None, **UNMOUNTED}
    return trio.run(run_hook, hook, facts)
