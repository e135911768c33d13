"""`ecfs node`: serve a directory as a drive."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import click

POLLING = "-event_engine_client,-event_engine_listener,-event_engine_callback_cq"
"""gRPC's experiments: without its new event engine, the thread that waits for a message also reads it. Through that
engine a message goes from thread to thread before, which made synced writes to six nodes 7 % slower."""


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where; port 0 takes a free one and says which.")
@click.option("--tls", type=click.Path(path_type=Path), metavar="FOLDER", help="A folder that ecfs certs made.")
@click.option("--insecure", is_flag=True, help="Without certificates, even where other machines can connect.")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input does.")
def command(directory: Path, listen: str, tls: Path | None, insecure: bool, with_parent: bool) -> None:
    """Serve DIR as a drive, in the foreground, until SIGTERM or Ctrl-C.

    DIR is a drive already, or an empty or missing directory on a disk of its own, in which `ecfs create` or
    `ecfs mount` will make one. Off loopback certificates are needed: see ecfs certs.
    """
    from ecfs.cli.extras import needs_extra
    from ecfs.cli.notify import keep_watchdog, notify

    os.environ.setdefault("GRPC_EXPERIMENTS", POLLING)  # read when gRPC is imported
    with needs_extra("node"):
        import trio

        from ecfs.clock import SystemClock
        from ecfs.memory import keep_memory, spare_collector
        from ecfs.mount.background import log_to
        from ecfs.node.listen import bind_name, parse_listen
        from ecfs.node.server import NodePlan, serve_node
        from ecfs.rpc.tls import node_files

    host, port = parse_listen(listen)
    files = None if tls is None else node_files(tls)
    plan = NodePlan(str(directory.absolute()), host, port, files, insecure)
    log_to(None)

    def ready(port: int) -> None:
        how = "" if files is None else " with TLS"
        click.echo(f"serving {directory} on {bind_name(host, port)}{how}; Ctrl-C ends it")
        notify(f"READY=1\nSTATUS=serving {directory} on {bind_name(host, port)}{how}")

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_watchdog)
            if with_parent:
                nursery.start_soon(_end_with_standard_input)
            await serve_node(plan, SystemClock(), ready)
            nursery.cancel_scope.cancel()

    keep_memory(arenas=1)
    spare_collector()
    trio.run(serve)
    # Without what the interpreter does at its end: it would wait for the threads of calls that a hung disk keeps.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


async def _end_with_standard_input() -> None:
    """A pipe ends when whoever holds its other end does, however that came about; a child would live on."""
    import trio

    await trio.lowlevel.wait_readable(0)
    while os.read(0, 4096):
        await trio.lowlevel.wait_readable(0)
    signal.raise_signal(signal.SIGTERM)
