"""Configurations as Triton's own message writes and reads them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.package.manifest import Manifest
from engines.package.triton import lay_out
from engines.tensors.signature import DTYPES
from services.registry.releases.layout import config_text, is_config

NAMES = st.from_regex(r"[A-Za-z0-9_./:\[\]-]{1,20}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@st.composite
def tensors(draw: st.DrawFn, name: str, dtypes: st.SearchStrategy[str]) -> dict[str, Any]:
    axes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4))
    shape = {
        "min": [low for low, _, _ in axes],
        "opt": [low + more for low, more, _ in axes],
        "max": [low + more + most for low, more, most in axes],
    }
    return {"name": name, "dtype": draw(dtypes), "shape": shape}


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    runtime = draw(st.sampled_from(["onnxruntime", "openvino"]))
    refused = {"float64", "bfloat16", "string"} if runtime == "openvino" else set()
    dtypes = st.sampled_from([dtype for dtype in DTYPES if dtype not in refused])
    entry = "net/model.xml" if runtime == "openvino" else "net/model.onnx"

    def component(number: int) -> dict[str, Any]:
        names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
        cut = draw(st.integers(1, len(names) - 1))
        found = [draw(tensors(name, dtypes)) for name in names]
        return {
            "name": f"net{number}",
            "model_type": "",
            "entry": entry,
            "files": [entry],
            "options": draw(st.dictionaries(st.sampled_from(["NUM_STREAMS", "PERFORMANCE_HINT"]), TEXTS)),
            "max_batch": draw(st.integers(1, 18)),
            "num_classes": 0,
            "signature": {"inputs": found[:cut], "outputs": found[cut:]},
            "preprocessing": {},
            "parity": {},
        }

    return Manifest.model_validate(
        {
            "repo": draw(TEXTS),
            "version": "1",
            "device": "cpu-x86-64",
            "runtime": {"name": runtime, "version": "1.0"},
            "precision": draw(st.sampled_from(["FP32", "BF16", "INT8"])),
            "method": "classification",
            "args": {},
            "taxonomies": [{"task": draw(NAMES), "classes": draw(st.lists(TEXTS, min_size=1, max_size=4))}],
            "components": [component(number) for number in range(draw(st.integers(1, 2)))],
            "lineage": {
                "source_format": "PTH",
                "source_digest": "",
                "template": "",
                "template_digest": "",
                "architectures": {},
            },
            "requirements": {"architecture": "x86_64", "packages": {}, "cpu_flags_any": []},
            "report": "report.json",
        }
    )


@given(manifest=manifests(), number=st.integers(1, 2**31))
@settings(max_examples=60)
def test_triton_reads_every_configuration_as_it_was_written(manifest: Manifest, number: int) -> None:
    from tritonclient.grpc import model_config_pb2

    for model in lay_out(manifest, "shop", number, "models/shop/versions/1"):
        read = text_format.Parse(config_text(model.config), model_config_pb2.ModelConfig())
        assert read == json_format.ParseDict(model.config, model_config_pb2.ModelConfig())
        # What Triton's core demands of every configuration (`ValidateModelConfig`, `ValidateIOShape`).
        assert list(read.version_policy.specific.versions) == [number]
        assert all(size <= read.max_batch_size for size in read.dynamic_batching.preferred_batch_size)
        for tensor in (*read.input, *read.output):
            assert tensor.name
            assert tensor.data_type != model_config_pb2.TYPE_INVALID
            assert len(tensor.dims) > 0
            assert all(extent >= 1 or extent == -1 for extent in tensor.dims)
            assert not tensor.HasField("reshape") or read.max_batch_size > 0
        for warmup in read.model_warmup:
            assert all(extent >= 1 for entry in warmup.inputs.values() for extent in entry.dims)


def test_a_field_that_triton_does_not_have_is_refused() -> None:
    with pytest.raises(json_format.ParseError):
        config_text({"name": "x", "no_such_field": 1})


def test_configurations_are_recognized_among_other_files() -> None:
    assert is_config("net/config.pbtxt")
    assert not is_config("net/1/model.onnx")
