"""Which pool a drive says it belongs to: enough to refuse strangers. Whether to believe it, `pool/` judges."""

from __future__ import annotations

import msgspec


class _Named(msgspec.Struct):
    pool_id: str


def pool_named_in(identity: bytes) -> str:
    """The pool id in an identity blob, "" if none can be read there."""
    try:
        return msgspec.json.decode(identity.split(b"\n", 2)[1], type=_Named).pool_id
    except (IndexError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""
