"""The methods of drive.proto as gRPC needs them: path, shape, and how messages become bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ecfs.rpc import drive_pb2


@dataclass(frozen=True)
class Method:
    """One rpc. raw_in, raw_out: its messages carry bulk data and stay bytes, for `frames`."""

    service: str
    name: str
    request: type[Message]
    reply: type[Message]
    client_streams: bool
    server_streams: bool

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"

    @property
    def raw_in(self) -> bool:
        return has_data(self.request)

    @property
    def raw_out(self) -> bool:
        return has_data(self.reply)


def has_data(kind: type[Message]) -> bool:
    return "data" in kind.DESCRIPTOR.fields_by_name


def as_it_is(frame: bytes) -> bytes:
    return frame


def serializer(kind: type[Message]) -> Callable[[Any], bytes]:
    return as_it_is if has_data(kind) else kind.SerializeToString


def deserializer(kind: type[Message]) -> Callable[[bytes], Any]:
    return as_it_is if has_data(kind) else kind.FromString


def _methods(service: str) -> dict[str, Method]:
    descriptor = drive_pb2.DESCRIPTOR.services_by_name[service]
    return {
        method.name: Method(
            descriptor.full_name,
            method.name,
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
            method.client_streaming,
            method.server_streaming,
        )
        for method in descriptor.methods
    }


DRIVE = _methods("Drive")
PROBE = _methods("Probe")
