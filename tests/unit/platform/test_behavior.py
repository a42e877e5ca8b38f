"""What the annotations of Google's AIPs say of messages and fields is true, and nothing lacks them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import protovalidate
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from lathe._options import resource_pb2, validate_pb2
from lathe.converter.v1.conversion_service_pb2 import (
    ConversionResult,
    ConversionSpec,
    ConversionTask,
    CreateConversionTaskRequest,
    ResubmitConversionTaskRequest,
)
from lathe.registry.v1.model_service_pb2 import CreateModelVersionRequest
from lathe.template.v1.template_service_pb2 import ResolveTemplateRequest

from services.platform.interceptors.behavior import behaviors, clear_output_only

NUMBERS = {
    FieldDescriptorProto.TYPE_DOUBLE,
    FieldDescriptorProto.TYPE_FLOAT,
    FieldDescriptorProto.TYPE_INT32,
    FieldDescriptorProto.TYPE_INT64,
}
SET_BY_SERVICES = {
    "uid",
    "owner",
    "create_time",
    "update_time",
    "expire_time",
    "status",
    "attempts",
    "origin",
    "result",
}
GEN = Path(__file__).parents[3] / "protos/gen/lathe"


def modules() -> list[Any]:
    names = [path.relative_to(GEN.parent).with_suffix("").parts for path in sorted(GEN.glob("*/v1/*_pb2.py"))]
    return [importlib.import_module(".".join(parts)) for parts in names]


FILES = modules()
MESSAGES: list[Descriptor] = [each for file in FILES for each in file.DESCRIPTOR.message_types_by_name.values()]
METHODS = [each for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for each in service.methods]


def resource_of(message: Descriptor) -> resource_pb2.ResourceDescriptor:
    return message.GetOptions().Extensions[resource_pb2.resource]


RESOURCES = {resource_of(each).type: each for each in MESSAGES if resource_of(each).type}


def rule_of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    return field.GetOptions().Extensions[validate_pb2.field]


def by_full_name(each: Any) -> str:
    return str(each.full_name)


def test_what_a_method_gets_by_name_is_a_resource() -> None:
    got = [each.output_type for each in METHODS if each.name.startswith("Get")]
    assert [each.name for each in got if "name" in each.fields_by_name and not resource_of(each).type] == []
    assert [each.full_name for each in RESOURCES.values() if "name" not in each.fields_by_name] == []


@pytest.mark.parametrize("message", RESOURCES.values(), ids=by_full_name)
def test_a_resource_says_what_it_is(message: Descriptor) -> None:
    said = resource_of(message)
    assert said.type == f"lathe/{message.name}"
    assert said.singular == message.name[0].lower() + message.name[1:]
    assert said.pattern
    assert said.plural
    (comment,) = said.pattern
    assert comment.rpartition("{")[2] == re.sub(r"(?<!^)(?=[A-Z])", "_", message.name).lower() + "}"
    for field in message.fields:
        found = set(behaviors(field))
        assert (field.name == "name") == ("IDENTIFIER" in found), field.full_name
        assert field.name not in SET_BY_SERVICES or "OUTPUT_ONLY" in found, field.full_name
        assert not ("OUTPUT_ONLY" in found and found & {"REQUIRED", "IMMUTABLE", "IDENTIFIER"}), field.full_name


def checked_by_code(field: FieldDescriptor) -> bool:
    """Return whether the rules leave a field to the code of its method: what an Update names with its mask."""
    return bool(rule_of(field).ignore == validate_pb2.IGNORE_ALWAYS)


@pytest.mark.parametrize("message", MESSAGES, ids=by_full_name)
def test_required_is_what_an_empty_message_lacks(message: Descriptor) -> None:
    empty = message_factory.GetMessageClass(message)()
    broken = protovalidate.Validator().collect_violations(empty)
    paths = [each.proto.field.elements for each in broken if each.proto.field]
    lacking = {path[0].field_name for path in paths if path}
    lacking = {name for name in lacking if name in message.fields_by_name}
    output = {field.name for field in message.fields if "OUTPUT_ONLY" in behaviors(field)}
    required = {field.name for field in message.fields if "REQUIRED" in behaviors(field)}
    assert lacking - output == required - {name for name in required if checked_by_code(message.fields_by_name[name])}


def patterns() -> dict[str, str]:
    return {
        f"^{re.sub(r'{[^}]*}', '[^/]+', pattern)}$": kind
        for kind, message in RESOURCES.items()
        for pattern in resource_of(message).pattern
    }


def test_numbers_say_their_unit() -> None:
    """Times are Durations and Timestamps, or say their unit; and whatever is told in a unit says it in its name."""
    described = FileDescriptorSet.FromString((GEN / "descriptors.binpb").read_bytes())
    for file in described.file:
        if not file.package.startswith("lathe."):
            continue
        for location in file.source_code_info.location:
            if len(location.path) != 4 or (location.path[0], location.path[2]) != (4, 2):
                continue
            field = file.message_type[location.path[1]].field[location.path[3]]
            if field.type in NUMBERS:
                words, name = location.leading_comments, field.name
                assert not re.search("(?<!per_)(seconds?|minutes?|hours?)$", name), name
                assert ("millisecond" in words) <= name.endswith("_ms"), (name, words)
                assert (" in bytes" in words) <= name.endswith("_bytes"), (name, words)


def references() -> Iterator[tuple[FieldDescriptor, resource_pb2.ResourceReference]]:
    for message in MESSAGES:
        for field in message.fields:
            yield field, field.GetOptions().Extensions[resource_pb2.resource_reference]


def test_a_field_that_takes_a_resource_says_which() -> None:
    known = patterns()
    for field, reference in references():
        rule = rule_of(field)
        pattern = (rule.repeated.items if field.is_repeated else rule).string.pattern
        pattern = pattern.replace("(versions|aliases)", "versions")
        if pattern in known and "IDENTIFIER" not in behaviors(field):
            if field.name == "parent":
                (parent,) = (each for each in RESOURCES.values() if resource_of(each).type == reference.child_type)
                above = re.sub(
                    r"{[^}]*}", "[^/]+", resource_of(parent).pattern[0].rpartition("/")[0].rpartition("/")[0]
                )
                assert pattern == f"^{above}$", field.full_name
            else:
                assert reference.type in {known[pattern], "*"}, field.full_name
        assert reference.type in {"", "*", *RESOURCES}, field.full_name
        assert not (reference.type or reference.child_type) or field.type == FieldDescriptor.TYPE_STRING


def test_what_only_a_service_sets_is_taken_out_of_requests() -> None:
    spec = ConversionSpec(model_version="models/a/versions/1", template="templates/b")
    task = ConversionTask(name="n", uid="u", spec=spec, labels={"a": "b"}, device="tpu", result=ConversionResult())
    task.status.progress = 2
    task.attempts.add(number=1)
    request = CreateConversionTaskRequest(task=task)
    clear_output_only(request)
    assert request.task == ConversionTask(name="n", spec=spec, labels={"a": "b"})
    again = ResubmitConversionTaskRequest(name="n", spec=spec)
    before = again.SerializeToString()
    clear_output_only(again)
    assert again.SerializeToString() == before


def test_it_is_taken_out_of_what_is_inside() -> None:
    request = ResolveTemplateRequest()
    request.overrides.values.built_in = True
    request.overrides.values.repo = "mine"
    clear_output_only(request)
    assert (request.overrides.values.built_in, request.overrides.values.repo) == (False, "mine")
    version = CreateModelVersionRequest()
    version.model_version.package.file_name = "x.tar"
    version.model_version.parity["net"].seed = 3
    clear_output_only(version)
    assert not version.model_version.package.file_name
    assert not version.model_version.parity
