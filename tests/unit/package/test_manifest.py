"""Manifests: what is written is read, and what is broken is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import Manifest, read_manifest
from engines.package.writer import readme

TENSOR = {"name": "x", "dtype": "float32", "shape": {"min": [1, 4], "opt": [1, 4], "max": [8, 4]}}
MANIFEST: dict[str, Any] = {
    "schema_version": 1,
    "repo": "shop",
    "version": "3",
    "device": "cpu-x86-64",
    "runtime": {"name": "openvino", "version": "2026.4"},
    "precision": "FP32",
    "method": "classification",
    "args": {"top": {"si": "5"}},
    "taxonomies": [{"task": "color", "classes": ["red", "blue"]}],
    "components": [
        {
            "name": "net",
            "model_type": "classifier",
            "entry": "net/model.xml",
            "files": ["net/model.xml"],
            "options": {},
            "max_batch": 8,
            "num_classes": 2,
            "signature": {"inputs": [TENSOR], "outputs": [TENSOR]},
            "preprocessing": {"x": {"mean_values": [1.0]}},
            "parity": {"verdict": "PASS"},
        }
    ],
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


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/model.xml").touch()
    return tmp_path


def refusal(package: Path, text: str) -> str:
    (package / "manifest.json").write_text(text)
    with pytest.raises(EngineFailure) as caught:
        read_manifest(package)
    assert caught.value.reason is FailureReason.INVALID_MODEL
    return caught.value.message


def test_a_manifest_is_read_as_it_was_written(package: Path) -> None:
    manifest = Manifest.model_validate(MANIFEST)
    (package / "manifest.json").write_text(manifest.to_json())
    assert read_manifest(package) == manifest
    assert read_manifest(package).to_json() == manifest.to_json()


def test_the_broken_part_of_a_manifest_is_named(package: Path) -> None:
    with pytest.raises(EngineFailure, match="no readable manifest"):
        read_manifest(package)
    assert "wrong at the file" in refusal(package, "{")
    assert "wrong at schema_version" in refusal(package, json.dumps({**MANIFEST, "schema_version": 2}))
    assert "wrong at components.0.entry" in refusal(package, without_entry())
    outside = (
        json.dumps(MANIFEST)
        .replace('["net/model.xml"]', '["../model.xml"]')
        .replace('"entry": "net/model.xml"', '"entry": "../model.xml"')
    )
    assert "'../model.xml', which is not there" in refusal(package, outside)
    elsewhere = json.dumps(MANIFEST).replace('"entry": "net/model.xml"', '"entry": "../model.xml"')
    assert "'net' opens '../model.xml', which is not one of its files" in refusal(package, elsewhere)
    # A name becomes a path: of a Triton model, in a bucket that holds others.
    leading_out = json.dumps(MANIFEST).replace('"name": "net"', '"name": "../../other/net"')
    assert "wrong at components.0.name" in refusal(package, leading_out)
    (package / "net/model.xml").unlink()
    assert "'net/model.xml', which is not there" in refusal(package, json.dumps(MANIFEST))


def without_entry() -> str:
    component = {key: value for key, value in MANIFEST["components"][0].items() if key != "entry"}
    return json.dumps({**MANIFEST, "components": [component]})


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("COSINE", "WARN. Required: cosine at least 0.99, WARN down to 0.9; measured: `y` 0.9999."),
        ("MAX_REL_ERROR", "WARN. Required: relative error at most 0.01, WARN up to 0.1; measured: `y` 0.25."),
    ],
)
def test_the_readme_gives_parity_by_the_measure_that_was_required(measure: str, words: str) -> None:
    parity = {
        "verdict": "WARN",
        "measure": measure,
        "threshold": 1e-2,
        "limit": 1e-1,
        "outputs": [{"output": "y", "max_rel_error": 0.25, "cosine": 0.9999}],
    }
    component = {**MANIFEST["components"][0], "parity": parity}
    assert words in readme(Manifest.model_validate({**MANIFEST, "components": [component]}))


def test_the_readme_has_the_warnings_of_a_component() -> None:
    parity = {"verdict": "PASS", "measure": "COSINE", "threshold": 1e-2, "limit": 1e-1, "outputs": []}
    component = {**MANIFEST["components"][0], "parity": parity, "warnings": ["The input 'scale' has a default."]}
    assert "Note: The input 'scale' has a default." in readme(
        Manifest.model_validate({**MANIFEST, "components": [component]})
    )
