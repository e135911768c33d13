"""Is an epoch history, or the private life of a drive that was copied and used elsewhere? Pure verdicts (R2, R11).

An epoch is opened only with k copies of its open record. Of r reachable members at least k + r - n must then show
traces of it: a record, the identity, or the fence. One with fewer traces was never opened here: either its opening
crashed before it counted, or a copy of a drive was used apart from this pool. Both are void, and taking the tail from
them would drop commits that were acknowledged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

Trace = tuple[int, str]
"""(epoch, nonce in hex)."""


def known(traces: Mapping[int, set[Trace]], k: int, n: int) -> set[Trace]:
    """The epochs that enough members know."""
    needed = max(1, k + len(traces) - n)
    seen = Counter(trace for of_one in traces.values() for trace in of_one)
    return {trace for trace, members in seen.items() if members >= needed}


def unsupported(traces: Mapping[int, set[Trace]], k: int, n: int) -> set[Trace]:
    """The epochs that too few members know, and that are not older than the newest one that enough know: what is
    older can't be the tail, and what of it is history is proven by the chain. traces: per reachable member, by slot."""
    needed = max(1, k + len(traces) - n)
    seen = Counter(trace for of_one in traces.values() for trace in of_one)
    newest = max((epoch for (epoch, _), members in seen.items() if members >= needed), default=0)
    return {trace for trace, members in seen.items() if members < needed and trace[0] >= newest}


def dead_epochs(rejected: Iterable[Trace], traces: Mapping[int, set[Trace]]) -> set[int]:
    """Epoch numbers of which only rejected nonces are known: checkpoints of them are void, too."""
    refused = set(rejected)
    alive = {trace[0] for of_one in traces.values() for trace in of_one if trace not in refused}
    return {epoch for epoch, _ in refused} - alive
