"""Overrides over template over model version over defaults, and where each value says it comes from."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.template.v1.template_service_pb2 import ResolvedTemplate, Template, TemplateOverrides, ValueSource

from engines.spec.tolerances import TOLERANCES
from services.platform.errors import LatheError
from services.platform.words import from_values, word
from services.siblings.overrides import OVERRIDABLE
from services.template.resolve import resolve
from services.template.rules import check_complete, check_template

TEMPLATE = {
    "display_name": "Digits",
    "source_format": "PTH",
    "device": "cpu-x86-64",
    "runtime": "openvino",
    "components": [
        {"name": "net", "inputs": [{"name": "image", "shape": [1, 1, 8, 8]}], "max_batch": 16, "num_classes": 10},
        {"name": "head.v2", "inputs": [{"name": "x", "shape": [1, 64]}], "source_file": "head.pth"},
    ],
}
VERSION = {
    "name": "models/digits/versions/1",
    "format": "PTH",
    "architecture": "architectures/digits",
    "files": [
        {"path": "net.pth", "digest": {"sha256": "0" * 64}},
        {"path": "head.pth", "digest": {"sha256": "1" * 64}},
    ],
}


def template(**changes: object) -> Template:
    return from_values({**TEMPLATE, **changes}, Template())


def version(**changes: object) -> ModelVersion:
    return from_values({**VERSION, **changes}, ModelVersion())


def overrides(values: dict[str, object], *paths: str) -> TemplateOverrides:
    return from_values({"values": values, "paths": list(paths)}, TemplateOverrides())


def sources(resolved: ResolvedTemplate) -> dict[str, str]:
    return {entry.path: word(ValueSource, entry.source) for entry in resolved.provenance}


def test_every_layer_says_what_it_gave() -> None:
    changes = overrides({"error_threshold": "1e-5", "components": [{"name": "net", "max_batch": 4}]})
    resolved = resolve(template(), changes, version())
    assert resolved.template.error_threshold == 1e-5
    assert [component.max_batch for component in resolved.template.components] == [4, 1]
    found = sources(resolved)
    assert found["error_threshold"] == "OVERRIDE"
    assert found["components.net.max_batch"] == "OVERRIDE"
    assert found["components.net.num_classes"] == "TEMPLATE"
    assert found["components.net.architecture"] == "MODEL_VERSION"
    assert found["components.head.v2.max_batch"] == "DEFAULT"
    assert found["precision"] == "DEFAULT"
    values = {entry.path: json.loads(entry.value_json) for entry in resolved.provenance}
    assert values["runtime"] == "openvino"
    assert values["components.net.max_batch"] == 4


def test_the_template_itself_is_left_alone() -> None:
    original = template()
    resolve(original, overrides({"runtime": "onnxruntime"}), version())
    assert original == template()


def test_a_named_path_without_a_value_takes_the_default() -> None:
    resolved = resolve(template(error_threshold=1e-3), overrides({}, "error_threshold"), None)
    assert resolved.template.error_threshold == 1e-4


def test_the_default_threshold_follows_the_precision() -> None:
    for precision, tolerance in TOLERANCES.items():
        resolved = resolve(template(precision=precision), overrides({}), None).template
        assert resolved.error_threshold == tolerance.threshold


def test_lists_are_replaced_not_appended() -> None:
    inputs = [{"name": "picture", "shape": [1, 3, 8, 8]}]
    changes = overrides({"components": [{"name": "net", "inputs": inputs}]}, "components.net.inputs")
    assert [entry.name for entry in resolve(template(), changes, None).template.components[0].inputs] == ["picture"]


def test_a_component_name_may_hold_dots() -> None:
    changes = overrides({"components": [{"name": "head.v2", "max_batch": 3}]}, "components.head.v2.max_batch")
    assert resolve(template(), changes, None).template.components[1].max_batch == 3


@pytest.mark.parametrize(
    "path", ["owner", "name", "components", "components.net", "components.net.name", "execution.x", "", "."]
)
def test_a_path_that_names_nothing_is_refused(path: str) -> None:
    with pytest.raises(LatheError, match="can be overridden"):
        resolve(template(), overrides({}, path), None)


def test_an_unknown_component_lists_those_there_are() -> None:
    with pytest.raises(LatheError, match=r"the template has: net, head\.v2"):
        resolve(template(), overrides({"components": [{"name": "tail", "max_batch": 3}]}), None)


@given(st.sampled_from(OVERRIDABLE))
def test_overriding_with_the_same_value_changes_only_the_source(path: str) -> None:
    same = TemplateOverrides(values=template(), paths=[path])
    changed, plain = resolve(template(), same, version()), resolve(template(), overrides({}), version())
    assert changed.template == plain.template
    assert sources(changed)[path] in {"OVERRIDE", "DEFAULT"}


def test_a_complete_template_passes() -> None:
    resolved = resolve(template(), overrides({"components": [{"name": "net", "source_file": "net.pth"}]}), version())
    check_complete(resolved.template, version())


def test_with_several_files_each_component_must_name_one() -> None:
    with pytest.raises(LatheError, match=r"net\.pth, head\.pth"):
        check_complete(resolve(template(), overrides({}), version()).template, version())


def test_another_format_is_refused() -> None:
    onnx = version(format="ONNX")
    with pytest.raises(LatheError, match="takes PTH, but models/digits/versions/1 is ONNX"):
        check_complete(resolve(template(), overrides({}), onnx).template, onnx)


def _one_input(max_batch: int, **fields: object) -> dict[str, object]:
    return {"components": [{"name": "a", "max_batch": max_batch, "inputs": [{"name": "x", **fields}]}]}


def test_a_scalar_and_a_batch_on_any_axis_are_inputs_like_others() -> None:
    for fields in (
        {},
        {"sample_values": [16000]},
        {"shape": [2, 1, 8], "batch_axis": 1},
        {"shape": [3], "batch_axis": -1},
    ):
        check_template(template(**_one_input(4, **fields)))
    check_template(template(**_one_input(1, shape=[2, 1, 8])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cpu-z80"}, "there is no device 'cpu-z80'"),
        ({"runtime": "tensorrt"}, "no runtime 'tensorrt'"),
        ({"runtime": "onnxruntime", "precision": "BF16"}, "does not compute in BF16"),
        (_one_input(2, shape=[2, 3]), "its batch axis, axis 0, is 1 and not 2. Say in batch_axis"),
        (_one_input(1, shape=[2, 3], batch_axis=0), "its batch axis, axis 0, is 1 and not 2"),
        (_one_input(2, shape=[2, 1], batch_axis=2), "has no axis 2"),
        (
            _one_input(1, shape=[2, 3], sample_values=[1, 2]),
            "2 values; give 1 for all elements, or one for each of the 6",
        ),
        (
            {"components": [{"name": "a", "inputs": [{"name": "x", "shape": [1, 1000, 1000, 1000]}]}]},
            "at most 536870912",
        ),
        ({"components": [{"name": "a", "inputs": [{"name": "x"}, {"name": "x"}]}]}, "names are unique"),
        (
            {
                "components": [
                    {
                        "name": "a",
                        "inputs": [{"name": "x", "shape": [1, 3, 8, 8], "preprocessing": {"mean_values": [1, 2]}}],
                    }
                ]
            },
            "no axis of 2 channels",
        ),
        ({"taxonomies": [{"task": "t", "classes": ["a"]}, {"task": "t", "classes": ["b"]}]}, "name is repeated"),
    ],
)
def test_an_unsound_template_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LatheError, match=message):
        check_template(template(**changes))


def test_a_template_must_travel_with_its_resolution() -> None:
    classes = [f"{number:099d}" for number in range(11_000)]
    with pytest.raises(LatheError, match="1048576 are allowed"):
        check_template(template(taxonomies=[{"task": "digit", "classes": classes}]))


def _image(**ends: list[int]) -> list[dict[str, object]]:
    return [{"name": "a", "max_batch": 8, "inputs": [{"name": "x", "shape": [1, 3, 8, 8], **ends}]}]


def test_ends_around_a_shape_are_sound() -> None:
    check_template(template(components=_image(min_shape=[1, 3, 4, 8], max_shape=[1, 3, 8, 64])))


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"min_shape": [1, 3, 4, 4]}, "one extent per axis: .* beside"),
        ({"min_shape": [1, 3, 4, 4], "max_shape": [1, 3, 8]}, "one extent per axis"),
        (
            {"min_shape": [1, 3, 4, 4], "max_shape": [4, 3, 8, 8]},
            "its batch axis, axis 0, is 1 and not 4: the batch is `max_batch`",
        ),
        ({"min_shape": [1, 3, 4, 9], "max_shape": [1, 3, 8, 9]}, "axis 3: min 9, shape 8 and max 9 must rise"),
        ({"min_shape": [1, 3, 4, 4], "max_shape": [1, 3, 8, 7]}, "axis 3: min 4, shape 8 and max 7 must rise"),
        ({"min_shape": [1, 3, 4, 4], "max_shape": [1, 3, 8192, 8192]}, "at the largest batch: .* at most 536870912"),
    ],
)
def test_ends_that_are_not_around_a_shape_are_refused(ends: dict[str, list[int]], message: str) -> None:
    with pytest.raises(LatheError, match=message):
        check_template(template(components=_image(**ends)))
    with pytest.raises(LatheError, match="one extent per axis"):
        check_template(template(components=[{"name": "a", "inputs": [{"name": "x", **ends}]}]))
