from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Writer(_message.Message):
    __slots__ = ("epoch", "nonce")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    nonce: str
    def __init__(self, epoch: _Optional[int] = ..., nonce: _Optional[str] = ...) -> None: ...

class Caller(_message.Message):
    __slots__ = ("attachment", "writer", "pool_id")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    POOL_ID_FIELD_NUMBER: _ClassVar[int]
    attachment: bytes
    writer: Writer
    pool_id: str
    def __init__(self, attachment: _Optional[bytes] = ..., writer: _Optional[_Union[Writer, _Mapping]] = ..., pool_id: _Optional[str] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("pool_id", "exclusive", "client", "holder")
    POOL_ID_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    pool_id: str
    exclusive: bool
    client: bytes
    holder: str
    def __init__(self, pool_id: _Optional[str] = ..., exclusive: _Optional[bool] = ..., client: _Optional[bytes] = ..., holder: _Optional[str] = ...) -> None: ...

class AttachReply(_message.Message):
    __slots__ = ("attachment", "voids", "abandoned", "machine")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    VOIDS_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    attachment: bytes
    voids: int
    abandoned: int
    machine: str
    def __init__(self, attachment: _Optional[bytes] = ..., voids: _Optional[int] = ..., abandoned: _Optional[int] = ..., machine: _Optional[str] = ...) -> None: ...

class DetachRequest(_message.Message):
    __slots__ = ("caller", "client")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    client: bytes
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., client: _Optional[bytes] = ...) -> None: ...

class DetachReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class IsVacantRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class IsVacantReply(_message.Message):
    __slots__ = ("vacant",)
    VACANT_FIELD_NUMBER: _ClassVar[int]
    vacant: bool
    def __init__(self, vacant: _Optional[bool] = ...) -> None: ...

class CreateRequest(_message.Message):
    __slots__ = ("blobs", "client", "holder", "filesystem")
    class BlobsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.ScalarMap[str, bytes]
    client: bytes
    holder: str
    filesystem: str
    def __init__(self, blobs: _Optional[_Mapping[str, bytes]] = ..., client: _Optional[bytes] = ..., holder: _Optional[str] = ..., filesystem: _Optional[str] = ...) -> None: ...

class LocationRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LocationReply(_message.Message):
    __slots__ = ("filesystem", "mount_point", "below")
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    MOUNT_POINT_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    filesystem: str
    mount_point: str
    below: str
    def __init__(self, filesystem: _Optional[str] = ..., mount_point: _Optional[str] = ..., below: _Optional[str] = ...) -> None: ...

class AliveRequest(_message.Message):
    __slots__ = ("caller",)
    CALLER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class AliveReply(_message.Message):
    __slots__ = ("abandoned",)
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    abandoned: int
    def __init__(self, abandoned: _Optional[int] = ...) -> None: ...

class SpaceRequest(_message.Message):
    __slots__ = ("caller",)
    CALLER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class SpaceReply(_message.Message):
    __slots__ = ("total", "free", "device")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    total: int
    free: int
    device: str
    def __init__(self, total: _Optional[int] = ..., free: _Optional[int] = ..., device: _Optional[str] = ...) -> None: ...

class StraysRequest(_message.Message):
    __slots__ = ("caller", "limit")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    limit: int
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class StraysReply(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadFenceRequest(_message.Message):
    __slots__ = ("caller",)
    CALLER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class ReadFenceReply(_message.Message):
    __slots__ = ("writer",)
    WRITER_FIELD_NUMBER: _ClassVar[int]
    writer: Writer
    def __init__(self, writer: _Optional[_Union[Writer, _Mapping]] = ...) -> None: ...

class FenceRequest(_message.Message):
    __slots__ = ("caller", "writer")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    WRITER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    writer: Writer
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., writer: _Optional[_Union[Writer, _Mapping]] = ...) -> None: ...

class FenceReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadBlobRequest(_message.Message):
    __slots__ = ("caller", "name")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    name: str
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class ReadBlobReply(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class WriteBlobRequest(_message.Message):
    __slots__ = ("caller", "name", "length", "data")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    name: str
    length: int
    data: bytes
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., name: _Optional[str] = ..., length: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class WriteBlobReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ("caller", "epochs")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    epochs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., epochs: _Optional[_Iterable[int]] = ...) -> None: ...

class PrepareReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("caller", "key", "length", "replace", "number", "data")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    key: str
    length: int
    replace: bool
    number: int
    data: bytes
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., key: _Optional[str] = ..., length: _Optional[int] = ..., replace: _Optional[bool] = ..., number: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutReply(_message.Message):
    __slots__ = ("voids", "number", "error", "text")
    VOIDS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    voids: int
    number: int
    error: str
    text: str
    def __init__(self, voids: _Optional[int] = ..., number: _Optional[int] = ..., error: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("offset", "length")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    offset: int
    length: int
    def __init__(self, offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("caller", "key", "ranges", "number")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    key: str
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    number: int
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., key: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...

class ReadReply(_message.Message):
    __slots__ = ("lengths", "number", "error", "text", "data")
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    number: int
    error: str
    text: str
    data: bytes
    def __init__(self, lengths: _Optional[_Iterable[int]] = ..., number: _Optional[int] = ..., error: _Optional[str] = ..., text: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("caller", "key")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    key: str
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., key: _Optional[str] = ...) -> None: ...

class VerifyReply(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    def __init__(self, header: _Optional[bytes] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("caller", "key")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    key: str
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., key: _Optional[str] = ...) -> None: ...

class DeleteReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("caller", "prefix")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    prefix: str
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., prefix: _Optional[str] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("key", "size")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    key: str
    size: int
    def __init__(self, key: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class SyncRequest(_message.Message):
    __slots__ = ("caller", "voids")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    VOIDS_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    voids: int
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., voids: _Optional[int] = ...) -> None: ...

class SyncReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("caller", "segment", "offset", "length", "data")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    segment: str
    offset: int
    length: int
    data: bytes
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., segment: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AppendsReply(_message.Message):
    __slots__ = ("error", "text", "number")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    error: str
    text: str
    number: int
    def __init__(self, error: _Optional[str] = ..., text: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class StoreRequest(_message.Message):
    __slots__ = ("length", "data")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    length: int
    data: bytes
    def __init__(self, length: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class StoreReply(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CheckReply(_message.Message):
    __slots__ = ("crc32",)
    CRC32_FIELD_NUMBER: _ClassVar[int]
    crc32: int
    def __init__(self, crc32: _Optional[int] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class FetchReply(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class RemoveRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
