"""The node's process: listen, serve until asked to end, end without breaking off what has begun."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import trio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ecfs.clock import Clock
from ecfs.errors import RefusedError
from ecfs.node.guard import CALLS, HOLDS, STANDING, Guard
from ecfs.node.listen import bind_name, check_listen
from ecfs.node.probe import TestChunks
from ecfs.node.reflecting import OTHERS, OthersLimited
from ecfs.node.served import Served
from ecfs.node.service import Service
from ecfs.rpc import drive_pb2
from ecfs.rpc.credentials import server_credentials
from ecfs.rpc.limits import SERVER_OPTIONS
from ecfs.rpc.methods import DRIVE, PROBE
from ecfs.rpc.served_exchange import Hearing
from ecfs.rpc.tls import TlsFiles

GRACE_S = 10.0
"""How long calls that have begun may take to finish when the node is asked to end."""
TIDY_S = 10.0
"""Between two looks for forgotten test chunks."""

_log = logging.getLogger(__name__)
Ready = Callable[[int], None]
"""Gets the port once the node answers."""


@dataclass(frozen=True)
class NodePlan:
    """directory: absolute. port 0: any free one. tls: our certificate and whose clients we take, None for none."""

    directory: str
    host: str
    port: int
    tls: TlsFiles | None = None
    insecure: bool = False


async def serve_node(plan: NodePlan, clock: Clock, ready: Ready, *, asked_to_end: trio.Event | None = None) -> None:
    """Serve until SIGTERM, SIGINT or `asked_to_end`. Raises UsageError, DriveLockedError, RefusedError (port taken)."""
    check_listen(plan.host, tls=plan.tls is not None, insecure=plan.insecure)
    served = Served(plan.directory, clock)
    chunks = TestChunks(plan.directory, clock)
    await served.start()
    guard = Guard()
    try:
        server, port, drive, ending = _listen(plan, served, chunks, guard)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard.run)
            nursery.start_soon(chunks.tidy, TIDY_S)
            server.start()
            hearing = drive.hearing = Hearing(server)
            try:
                ready(port)
                await _until_asked(asked_to_end)
                _log.info("ending")
                for end in ending:
                    end()
                await _stop(server)
            finally:
                hearing.stop()
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            chunks.remove_all()
            await served.stop()


def _listen(
    plan: NodePlan, served: Served, chunks: TestChunks, guard: Guard
) -> tuple[grpc.Server, int, Service, list[Callable[[], object]]]:
    """The server, its port, the drive's service, and what is to be done before it is stopped."""
    token = trio.lowlevel.current_trio_token()
    workers = CALLS + STANDING + HOLDS + OTHERS
    drive, probe = Service(served, DRIVE, guard, token), Service(chunks, PROBE, guard, token)
    server = grpc.server(
        ThreadPoolExecutor(workers, thread_name_prefix="call"),
        handlers=[drive.handler(), probe.handler()],
        interceptors=[OthersLimited()],
        options=SERVER_OPTIONS,
        maximum_concurrent_rpcs=workers,
    )
    status = _with_standard_services(server)
    address = bind_name(plan.host, plan.port)
    try:
        if plan.tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, server_credentials(plan.tls))
    except RuntimeError as error:
        raise RefusedError(
            f"can't listen on {address}: the port is taken, or the address is not this machine's"
        ) from error
    return server, port, drive, [status.enter_graceful_shutdown, served.release_all, drive.standing.end]


def _with_standard_services(server: grpc.Server) -> health.HealthServicer:
    """Health for whatever watches services, reflection for tools that talk to any."""
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    names = [service.full_name for service in drive_pb2.DESCRIPTOR.services_by_name.values()]
    for name in ["", *names]:
        status.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return status


async def _until_asked(asked_to_end: trio.Event | None) -> None:
    if asked_to_end is not None:
        await asked_to_end.wait()
        return
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            _log.info("%s", signal.Signals(number).name)
            return


async def _stop(server: grpc.Server) -> None:
    """No new calls; those that have begun may finish, for a while."""
    ended = server.stop(GRACE_S)
    await trio.to_thread.run_sync(ended.wait, GRACE_S + 5, abandon_on_cancel=True)
