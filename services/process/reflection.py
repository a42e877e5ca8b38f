"""Server reflection, v1 and v1alpha.

`grpcio-reflection` has v1alpha only, while today's tools ask for v1 first. The two differ in their package name alone,
so the same servicer answers both, and the descriptor of v1 is that of v1alpha under its new name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.aio.Server, service_names: Sequence[str]) -> None:
    """Let clients ask for the descriptors of these services, and of reflection itself."""
    _describe_v1()
    servicer = reflection.ReflectionServicer([*service_names, V1, V1ALPHA], _Symbols())
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": method})])


class _File:
    """A file's descriptor with the names of its fields in JSON.

    The generated code leaves them out, and some clients, such as grpcurl before 1.9, then print the names of the proto.
    """

    def __init__(self, file: FileDescriptor) -> None:
        self._file = file
        self.name: str = file.name

    @property
    def dependencies(self) -> list[_File]:
        return [_File(file) for file in self._file.dependencies]

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:  # noqa: N802 - as protobuf has it
        self._file.CopyToProto(proto)
        _name_in_json(self._file.message_types_by_name.values(), proto.message_type)


def _name_in_json(messages: Iterable[Descriptor], protos: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    found = {message.name: message for message in messages}
    for proto in protos:
        message = found[proto.name]
        for field in proto.field:
            field.json_name = message.fields_by_name[field.name].json_name
        _name_in_json(message.nested_types, proto.nested_type)


class _Symbols:
    """The descriptors of this process; unlike protobuf's own pool it finds the file of a method or field too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)

    def FindFileByName(self, name: str) -> _File:  # noqa: N802 - as protobuf's pool has it
        return _File(descriptor_pool.Default().FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> _File:  # noqa: N802
        return _File(self._find(symbol))

    def _find(self, symbol: str) -> FileDescriptor:
        pool = descriptor_pool.Default()
        try:
            return pool.FindFileContainingSymbol(symbol)
        except KeyError:
            pass
        try:
            return pool.FindMethodByName(symbol).containing_service.file
        except KeyError:
            holder = pool.FindFieldByName(symbol).containing_type
            assert holder is not None  # extensions are found above
            return holder.file


def _describe_v1() -> None:
    pool = descriptor_pool.Default()
    name = "grpc/reflection/v1/reflection.proto"
    try:
        pool.FindFileByName(name)
    except KeyError:
        alpha = reflection_pb2.DESCRIPTOR.serialized_pb
        renamed = descriptor_pb2.FileDescriptorProto.FromString(alpha)
        _rename(renamed)
        renamed.name = name
        pool.AddSerializedFile(renamed.SerializeToString())


def _rename(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Move every type that the file defines from package v1alpha to v1."""
    old, new = ".grpc.reflection.v1alpha.", ".grpc.reflection.v1."
    file.package = new.strip(".")
    for message in file.message_type:
        for field in filter(lambda each: each.type_name, message.field):
            field.type_name = field.type_name.replace(old, new)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
