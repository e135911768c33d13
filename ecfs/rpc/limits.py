"""What both sides of the wire agree not to exceed, and how they notice that the other one is gone."""

from __future__ import annotations

MIB = 1 << 20

CHUNK = 4 * MIB
"""Bytes of data in one message. A shard of a usual pool has 1 MiB and needs one."""
MAX_MESSAGE = CHUNK + 64 * 1024
"""Bytes of one message; a longer one is refused by gRPC before it is read."""
MAX_METADATA = 16 * 1024
MAX_DATA = 64 * MIB
"""Bytes that one call may carry in all its messages: more than any shard, journal segment or blob has."""
MAX_RANGES = 4096
"""Ranges of one read."""
MAX_CALL_S = 120.0
"""A call must say by when it wants its answer, and that may not be later: none occupies a node for ever."""
MAX_LISTING_S = 3600.0
"""The same for a listing: a drive of some TiB has a million shards, and whoever asked looks at each."""

SMALLEST_RATE = 1 * MIB
"""Bytes per second that the way to a node carries at least; calls with bulk data get time for it."""

# The other side is asked for a sign of life while a call is on its way, every KEEPALIVE_MS, and given KEEPALIVE_OUT_MS
# to answer. Without calls nothing is sent.
KEEPALIVE_MS = 2000
KEEPALIVE_OUT_MS = 3000

_BOTH: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.absolute_max_metadata_size", MAX_METADATA),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_OUT_MS),
    # Without this one, a peer that is merely stopped, with its kernel still acknowledging, stays for a minute.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_OUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
]

CLIENT_OPTIONS: list[tuple[str, int]] = [
    *_BOTH,
    # gRPC repeats by itself what it believes never arrived. What may be repeated is ours to say.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Jittered by gRPC; a node that is back is reached within these bounds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Each drive has a connection of its own: nodes must not share fate, not even two at one address.
    ("grpc.use_local_subchannel_pool", 1),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    *_BOTH,
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 4),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.server_handshake_timeout_ms", 5000),
    ("grpc.max_allowed_incoming_connections", 128),
    # Two nodes on one port would each get half of the calls.
    ("grpc.so_reuseport", 0),
]


def data_deadline_s(deadline_s: float, length: int) -> float:
    """Seconds that a call may take which carries `length` bytes."""
    return min(MAX_CALL_S, deadline_s + length / SMALLEST_RATE)
