"""The metrics for Prometheus, made from the daemon's own counts when somebody scrapes. The list: docs/METRICS.md.

Labels take values from fixed sets only (slots, states, operations, kinds of errors and events): no file, no user, no
address of a client, so the number of series does not grow with what is stored or who uses it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ecfs import __version__
from ecfs.control.status import DEGRADED, FAILED, HEALTHY, Status
from ecfs.drive.health import health_of
from ecfs.histogram import BUCKETS, Histogram, bound
from ecfs.pool.members import DRIVE_STATES
from ecfs.web.view import View

STATES = (HEALTHY, DEGRADED, FAILED)
OPERATIONS = ("read", "put", "append", "sync", "verify", "delete")
"""Of drives, each with its own histogram; the rest is counted together as "other"."""
EDGES = range(6, BUCKETS - 1, 2)
"""Buckets that are told apart: 64 µs, 256 µs, … 67 s."""


class Metrics:
    """One registry per mount: what another library registers globally is not ours to tell."""

    def __init__(self, view: View, failures: Mapping[int, int]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(PoolCollector(view, failures))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The exposition, format 0.0.4 of Prometheus."""
        return generate_latest(self._registry)


class PoolCollector(Collector):
    """Samples of one pool. failures: requests that could not be done, by errno."""

    def __init__(self, view: View, failures: Mapping[int, int]) -> None:
        self._view = view
        self._source = view.source
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        status = self._view.status()
        yield from _pool(status)
        yield from _stripes(status)
        yield from _drives(status)
        yield from _healing(status)
        yield from _limits(status)
        yield from self._commits(status)
        yield from self._requests()
        yield from self._answers()
        yield from self._events()

    def _commits(self, status: Status) -> Iterator[Metric]:
        commits, engine = status["commits"], self._source.engine
        yield histograms(
            "ecfs_commit_seconds", "Commits, from the freeze until acknowledged.", (), [((), engine.commit_time)]
        )
        yield _time("ecfs_last_commit", "When the newest commit became durable.", commits["last"])
        yield _gauge("ecfs_commits_stalled", "1 while what is written can't be made durable.", bool(commits["stalled"]))
        yield _gauge("ecfs_commits_fenced", "1 when another process has taken the pool over.", bool(commits["fenced"]))

    def _requests(self) -> Iterator[Metric]:
        source = self._source
        took = [((name,), each) for name, each in sorted(source.requests.items()) if any(each.buckets)]
        yield histograms("ecfs_request_seconds", "Requests of programs, by kind.", ("operation",), took)
        failed = CounterMetricFamily("ecfs_request_failures", "Requests ecfs could not do.", labels=["errno"])
        for number in sorted({errno.EIO, errno.ENOSPC, errno.EROFS, *self._failures}):
            failed.add_metric([errno.errorcode.get(number, "other")], self._failures.get(number, 0))
        yield failed
        yield _counter("ecfs_read_bytes", "Bytes of files read by programs.", source.engine.bytes_read)
        yield _counter("ecfs_written_bytes", "Bytes of files written by programs.", source.engine.bytes_written)
        moved = source.engine.compactor.moved_bytes
        yield _counter(
            "ecfs_compacted_bytes",
            "Bytes of files written anew: to win back space, and to bring pieces together.",
            moved,
        )
        yield histograms("ecfs_loop_delay_seconds", "How late the event loop ran.", (), [((), self._view.late)])

    def _answers(self) -> Iterator[Metric]:
        read = CounterMetricFamily("ecfs_drive_read_bytes", "Bytes read from a drive.", labels=["slot"])
        written = CounterMetricFamily("ecfs_drive_written_bytes", "Bytes written to a drive.", labels=["slot"])
        flying = GaugeMetricFamily("ecfs_drive_in_flight", "Operations a drive has not answered yet.", labels=["slot"])
        took: list[tuple[tuple[str, ...], Histogram]] = []
        for member in self._source.pool.members:
            health, slot = health_of(member.drive), str(member.slot)
            if health is None:
                continue  # out: its counters begin anew when it is back, which rate() takes for what it is
            read.add_metric([slot], health.bytes_read)
            written.add_metric([slot], health.bytes_written)
            flying.add_metric([slot], health.in_flight)
            answers = {name: latencies.all for name, latencies in health.latencies.items()}
            took += [((slot, name), each) for name, each in by_operation(answers).items()]
        yield histograms(
            "ecfs_drive_operation_seconds", "Operations that a drive answered.", ("slot", "operation"), took
        )
        yield from (read, written, flying)

    def _events(self) -> Iterator[Metric]:
        events = CounterMetricFamily("ecfs_events", "Events of the pool and its drives, by kind.", labels=["kind"])
        for kind, count in sorted(self._source.pool.members.event_kinds.items()):
            events.add_metric([kind], count)
        yield events
        hook = self._source.hook
        yield _gauge(
            "ecfs_alerts_waiting", "Events the on_event command was not told of yet.", hook.waiting if hook else 0
        )
        yield _counter(
            "ecfs_alerts_failures", "Runs of the on_event command that failed.", hook.failures if hook else 0
        )


# ---- from the status ------------------------------------------------------------------------------------------


def _pool(status: Status) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "ecfs_pool_info", "The pool; always 1.", labels=["version", "pool", "data", "parity"]
    )  # fmt: skip
    pool = status["pool"]
    info.add_metric([__version__, pool["id"], str(pool["data"]), str(pool["parity"])], 1)
    yield info
    state = GaugeMetricFamily("ecfs_pool_state", "1 for the state the pool is in.", labels=["state"])
    for name in STATES:
        state.add_metric([name], status["state"] == name)
    yield state
    yield _gauge("ecfs_pool_may_lose", "More drives that may be lost without losing data.", status["may_lose"])
    capacity = status["capacity"]
    yield _gauge("ecfs_size_bytes", "Room for files in all, redundancy taken off.", capacity["total"])
    yield _gauge("ecfs_used_bytes", "What files and their old versions hold of it.", capacity["used"])
    yield _gauge("ecfs_free_bytes", "Room for more.", capacity["free"])
    yield _gauge("ecfs_files", "Files and directories.", capacity["files"])


def _stripes(status: Status) -> Iterator[Metric]:
    stripes = status["stripes"]
    yield _gauge("ecfs_stripes", "Stripes.", stripes["total"])
    for name, text in (
        ("full", "with all their shards"),
        ("missing", "that lack a shard"),
        ("unknown", "with a shard that must be verified first"),
        ("lost", "that can't be decoded now"),
    ):
        yield _gauge(f"ecfs_stripes_{name}", f"Stripes {text}; absent while not counted.", stripes[name])


def _drives(status: Status) -> Iterator[Metric]:
    up = GaugeMetricFamily("ecfs_drive_up", "1 if the drive can be used now.", labels=["slot"])
    state = GaugeMetricFamily("ecfs_drive_state", "1 for the state the drive is in.", labels=["slot", "state"])
    size = GaugeMetricFamily("ecfs_drive_size_bytes", "Of the drive's file system.", labels=["slot"])
    free = GaugeMetricFamily("ecfs_drive_free_bytes", "Free there.", labels=["slot"])
    errors = CounterMetricFamily("ecfs_drive_errors", "Errors of a drive, by kind.", labels=["slot", "kind"])
    for drive in status["drives"]:
        slot = str(drive["slot"])
        up.add_metric([slot], bool(drive["usable"]))
        for name in DRIVE_STATES:
            state.add_metric([slot, name], drive["state"] == name)
        for family, value in ((size, drive["total"]), (free, drive["free"])):
            if value is not None:
                family.add_metric([slot], value)
        for kind, count in sorted(drive["errors"].items()):
            errors.add_metric([slot, kind], count)
    yield from (up, state, size, free, errors)


def _healing(status: Status) -> Iterator[Metric]:
    scrub, drill, repairs = status["scrub"], status["drill"], status["repairs"]
    progress: Mapping[str, Any] = scrub["progress"] or {}
    yield _gauge("ecfs_scrub_running", "1 while a scrub runs.", bool(scrub["running"]))
    yield _gauge("ecfs_scrub_paused", "1 while a scrub waits to be resumed.", bool(scrub.get("paused")))
    yield _gauge(
        "ecfs_scrub_done_bytes", "Shard bytes that the running scrub has verified.", progress.get("bytes_done")
    )
    yield _gauge("ecfs_scrub_planned_bytes", "Shard bytes that it will have.", progress.get("bytes_total"))
    yield _time("ecfs_scrub_last_finished", "When a scrub last came to its end.", scrub["last_finished"])
    yield _time("ecfs_drill_last_started", "Begin of the last whole drill.", drill["last_started"])
    yield _gauge("ecfs_drill_proven_ratio", "Share of bytes shown to survive any m drives.", drill["proven"])
    yield _counter("ecfs_repairs", "Shards put right since the pool was mounted.", repairs["done"])
    yield _gauge("ecfs_repairs_waiting", "Shards that reads found bad, to be repaired.", repairs["waiting"])
    yield _gauge(
        "ecfs_stripes_undecodable", "Stripes that could not be decoded when last tried.", repairs["undecodable"]
    )


def _limits(status: Status) -> Iterator[Metric]:
    used = GaugeMetricFamily("ecfs_memory_used_bytes", "What is held in memory or journal.", labels=["what"])
    limit = GaugeMetricFamily("ecfs_memory_limit_bytes", "Its bound.", labels=["what"])
    for what, held in status["memory"].items():
        if held["limit"] is not None:  # the others are numbers, not bytes
            used.add_metric([what], held["used"])
            limit.add_metric([what], held["limit"])
    yield from (used, limit)


# ---- families -------------------------------------------------------------------------------------------------


def by_operation(answers: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """Histograms of `OPERATIONS`, and the sum of all the others as "other"; those without a count are left out."""
    other, found = Histogram(), {}
    for name, each in answers.items():
        if name in OPERATIONS and any(each.buckets):
            found[name] = each
        elif name not in OPERATIONS:
            other.buckets = [one + more for one, more in zip(other.buckets, each.buckets, strict=True)]
            other.seconds += each.seconds
    return found | ({"other": other} if any(other.buckets) else {})


def histograms(
    name: str, text: str, labels: Iterable[str], took: Iterable[tuple[tuple[str, ...], Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=list(labels))
    for values, each in took:
        family.add_metric(values, _cumulative(each.buckets), each.seconds)
    return family


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    """(le, how many lasted at most so long), as Prometheus wants it."""
    edges = [(repr(bound(edge)), float(sum(buckets[: edge + 1]))) for edge in EDGES]
    return [*edges, ("+Inf", float(sum(buckets)))]


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Without a sample where the value is not known: absent says that, 0 would claim something."""
    family = GaugeMetricFamily(name, text)
    if value is not None:
        family.add_metric([], value)
    return family


def _time(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Absent until it has happened once."""
    return _gauge(f"{name}_timestamp_seconds", text, value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text)
    family.add_metric([], value)
    return family
