"""Requests that are nearly right: what is plainly wrong does not get past the rules of the protos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

SHA = "00" * 32
UUIDS = ("7f3d7c1e-52a4-4a36-8d4e-0c6f1b0a9e11", "00000000-0000-0000-0000-000000000000")
DEPTH = 3

# Per name of a field: what passes its rules, whether it names something or not, and what a handler might trip over.
LIKELY: dict[str, tuple[str, ...]] = {
    "name": (
        "models/fuzz",
        "models/-",
        "models/fuzz/versions/1",
        "models/fuzz/versions/\0",
        "models/\0/versions/99999999999999999999",
        "models/fuzz/channels/\0",
        "models/-/channels/fuzz",
        "models/\0/channels/x/releases/99999999999999999999",
        "architectures/fuzz",
        "architectures/\0",
        "datasets/fuzz",
        "datasets/\0",
        "datasets/fuzz/items/1",
        "datasets/fuzz/items/999999999999",
        "templates/fuzz",
        "templates/%00",
        "templates/\0",
        f"uploads/{UUIDS[0]}",
        "uploads/\0",
        f"artifacts/{SHA}",
        f"conversionTasks/{UUIDS[0]}",
        "conversionTasks/\0",
        f"quantizationTasks/{UUIDS[0]}",
        "quantizationTasks/\0",
        f"optimizationTasks/{UUIDS[0]}",
        "optimizationTasks/\0",
        "optimizationTaskGroups/fuzz",
        "optimizationTaskGroups/\0",
        f"evaluationTasks/{UUIDS[0]}",
        "evaluationTasks/\0",
        f"evaluationComparisons/{UUIDS[0]}",
        "evaluationComparisons/\0",
        "image",
        "net",
    ),
    "parent": ("models/fuzz", "models/-", "models/\0", "models/absent", "datasets/fuzz", "datasets/\0"),
    "template": ("templates/fuzz", "templates/absent", "templates/\0"),
    "model_version": ("models/fuzz/versions/1", "models/fuzz/versions/0", "models/\0/versions/\0"),
    "architecture": ("architectures/fuzz", "architectures/absent", "architectures/\0"),
    "output_model": ("models/fuzz", "models/absent", "models/\0"),
    "sources": ("models/fuzz/versions/1", "models/absent/versions/1", "datasets/fuzz", "models", "\0", "x" * 100_000),
    "key": ("animal", "class", "label", "\0"),
    "task": ("conversionTasks/x", "x", "/", "\0"),
    "request_id": UUIDS,
    "sha256": (SHA, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    "path": ("manifest.json", "model.onnx", "a/b.pth", "net.pth/x", "\0", "é" * 200),
    "order_by": ("create_time desc", "display_name, name desc", "uid", "name; DROP TABLE models", "name,", "\0"),
    "filter": (
        "labels.team = a AND -state = READY",
        'name = "*\\"*" OR number < 99999999999999999999',
        "create_time > 0001-01-01T00:00:00+14:00",
        "a:(b OR (c AND -d))",
        "(" * 3000,
        "name:*" + " OR name:x" * 300,
        "\0",
    ),
    "page_token": ("e30", "W10", "WyJhIiwwXQ", "%%%", "\0", "☃"),
    "device": ("cpu-x86-64", "nvidia-t4", "\0"),
    "runtime": ("onnxruntime", "openvino", "tensorrt", "\0"),
    "dtype": ("float32", "int64"),
    "method": ("raw", "classification"),
    "paths": (
        "display_name",
        "labels",
        "*",
        "name",
        "source",
        "execution.copy_parameters",
        "components.net.max_batch",
        "components.net.inputs",
        "components.net.name",
        "components..inputs",
        "a.b.c",
        ".",
        "\0",
    ),
    "class_name": ("FuzzNet", "Other"),
    "source": (
        '@architecture("Other")\ndef build():\n    return None\n',
        "def (",
        "\0",
        "(" * 5000,
        "\ufeff",
        "#" * 999,
    ),
    "config": ("a: 1", "{" * 3000, "a: !!python/object:os.system x", "? [1]\n: 2", "\0", "a: &a [*a]", "[]", "a: .inf"),
    "file_name": ("f.bin", 'a"b\r\nc', "\0", "☃/../x"),
    "search": ("fuzz", "\0", "%_\\", "'; --", "…", "a" * 200),
    "holder": ("conversionTasks/x", "\0"),
    "etag": ("", '"x"', "\0"),
    "release": ("models/fuzz/channels/fuzz/releases/1", "models/a/channels/b/releases/\0"),
    "evaluation_task": ("evaluationTasks/x", "evaluationTasks/\0"),
    "runtime_version": ("1.31.1", "2026.4.0-1", "9" * 90, "x", "\0"),
    "cpu_flags": ("avx2", "\0"),
    "names": (
        "conversionTasks/x",
        "optimizationTasks/x",
        "quantizationTasks/x",
        "evaluationTasks/x",
        "evaluationTasks/\0",
    ),
    "uses": ("models/fuzz/versions/1", "datasets/fuzz", "\0"),
    "slices": ("scene", "\0"),
    "class_tasks": ("digit", "\0"),
    "metric": ("top1", "latency_p99_ms", "\0"),
    "dataset": ("datasets/fuzz", "datasets/x", "datasets/\0"),
    "tensor_information": ("x:float(1*3)", "x:float(1*3,0*3)", "x[\0]:float(1)", "x:" + "(" * 999, "\0", "x:float([])"),
    "output_location": ("optimized", "a/../b", "cas", "a//b", "triton/x", "a/", "a" * 200),
    "engine_version": ("", "0.2.0", "9.9", "\0"),
    "model_versions": ("models/fuzz/versions/1", "models/fuzz/versions/0", "models/\0/versions/\0"),
}
TEXTS = st.one_of(
    st.sampled_from(["", "\0", "a\0b", "-", " ", "x" * 100, "x" * 70_000, "1e999", "\ud7ff\uffff\U0010ffff", "é\r\n"]),
    st.text(st.characters(codec="utf-8"), max_size=40),
)
KEYS = st.sampled_from(["team", "net", "architectures/fuzz", "\0", "Ä", ""])
NUMBERS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_INT32: st.sampled_from([0, 1, -1, 7, 2**31 - 1, -(2**31)]),
    FieldDescriptor.TYPE_INT64: st.sampled_from([0, 1, -1, 10, 2**31, 2**63 - 1, -(2**63)]),
    FieldDescriptor.TYPE_DOUBLE: st.sampled_from([0.0, -1.0, 1e-5, 1e308, 255.0, float("inf"), float("nan")]),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
}


def junk(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Message]:
    """Return a strategy for messages of a type in which each field is there or not."""
    message_type = message_factory.GetMessageClass(descriptor)
    if depth >= DEPTH:
        return st.builds(message_type)
    fields = {field.name: _field(field, depth) for field in descriptor.fields}

    def build(chosen: dict[str, Any]) -> Message:
        message = message_type()
        for name, value in chosen.items():
            _set(message, descriptor.fields_by_name[name], value)
        return message

    return st.fixed_dictionaries({}, optional=fields).map(build)


def spoil(data: st.DataObject, request: Message) -> None:
    """Replace one to three fields of a request that is right, wherever they are, by something else."""
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(_places(request))
        if not places:
            return  # it has no fields
        message, field = data.draw(st.sampled_from(places))
        message.ClearField(field.name)
        if data.draw(st.integers(0, 4)):
            _set(message, field, data.draw(_field(field, DEPTH - 2)))


def _places(message: Message) -> Iterator[tuple[Message, Any]]:
    for field in message.DESCRIPTOR.fields:
        yield message, field
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inside in value if field.is_repeated else [value]:
                yield from _places(inside)


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    message.MergeFrom(type(message)(**{field.name: value}))


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(KEYS, _value(field.message_type.fields_by_name["value"], depth), max_size=2)
    one = _value(field, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return junk(field.message_type, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([*(value.number for value in field.enum_type.values), 99, -1])
    if field.type == FieldDescriptor.TYPE_STRING:
        likely = LIKELY.get(field.name)
        return st.one_of(st.sampled_from(likely), st.sampled_from(likely), TEXTS) if likely else TEXTS
    return NUMBERS[field.type]
