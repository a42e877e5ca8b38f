"""Overrides without the values that no path names: they mean the same, and hold no more than that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lathe.template.v1.template_service_pb2 import ClassTaxonomy, Template, TemplateOverrides

from services.siblings.overrides import COMPONENT_FIELDS, OVERRIDABLE, named_only
from services.template.resolve import resolve
from tests.unit.template.test_resolve import template, version

PATHS = st.sampled_from(
    [
        *OVERRIDABLE,
        *(f"components.{name}.{field}" for name in ("net", "head.v2") for field in COMPONENT_FIELDS),
        "execution.fuse_operators",
    ]
)
VALUES = st.builds(
    template,
    runtime=st.sampled_from(["", "onnxruntime"]),
    precision=st.sampled_from(["FP32", "BF16"]),
    execution=st.fixed_dictionaries({"fuse_operators": st.booleans()}),
    taxonomies=st.lists(st.just({"task": "digit", "classes": ["0", "1"]}), max_size=1),
)


@given(VALUES, st.lists(PATHS, max_size=4, unique=True))
def test_they_resolve_to_the_same(values: Template, paths: list[str]) -> None:
    asked = TemplateOverrides(values=values, paths=paths)
    kept = named_only(asked)
    assert resolve(template(), kept, version()) == resolve(template(), asked, version())
    assert named_only(kept) == kept


@pytest.mark.parametrize("paths", [["runtime"], ["components.net.max_batch"], []])
def test_what_no_path_names_is_gone(paths: list[str]) -> None:
    values = template()
    values.display_name = "x" * 1000  # names no value of a task, whatever the paths
    if paths:
        values.taxonomies.append(ClassTaxonomy(task="digit", classes=["c"] * 1000))
    kept = named_only(TemplateOverrides(values=values, paths=paths))
    assert kept.ByteSize() < 500
    assert list(kept.paths) == paths


def test_values_of_a_component_that_the_values_lack_clear_it() -> None:
    asked = TemplateOverrides(values=Template(runtime="openvino"), paths=["components.net.max_batch"])
    kept = named_only(asked)
    assert not kept.values.runtime
    assert resolve(template(), kept, version()).template.components[0].max_batch == 1
