"""The wire between a storage node and its clients: messages, framing, errors, limits, and gRPC under trio.

Importing this room imports gRPC, which starts threads when it is first used: a process forks before, never after.
"""

from __future__ import annotations

import os

# gRPC's own fork handlers would only complain whenever a command is run; and what it logs is for its developers.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
