"""Packages that are written as ModelArts leaves what it converted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from engines.package.modelarts import write_output
from tests.unit.package.test_manifest import MANIFEST

QUANTIZED = {
    "scheme": "STATIC",
    "method": "MINMAX",
    "granularity": "PER_CHANNEL",
    "asymmetric": False,
    "components": {"net": {"quantizer": "tflite"}},
}


def package(folder: Path, runtime: str, *files: str, **fields: Any) -> Path:
    """Write a package whose components hold these files, each in the folder of its component."""
    manifest = copy.deepcopy(MANIFEST) | fields | {"runtime": {"name": runtime, "version": "1"}}
    entries: dict[str, list[str]] = {}
    for file in files:
        entries.setdefault(file.partition("/")[0], []).append(file)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(file)
    part = manifest["components"][0]
    manifest["components"] = [part | {"name": name, "entry": own[0], "files": own} for name, own in entries.items()]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("runtime", "files", "written"),
    [
        ("ascend", ["net/model.om"], ["model.om"]),
        ("litert", ["net/model.tflite"], ["model/model.tflite"]),
        ("tensorrt", ["net/model.plan"], ["model/model.plan"]),
        ("openvino", ["net/model.xml", "net/model.bin"], ["model/model.bin", "model/model.xml"]),
        ("ascend", ["a/model.om", "b/model.om"], ["a/model.om", "b/model.om"]),
        ("someone-elses", ["net/x/model"], ["model/x/model"]),
    ],
)
def test_files_are_where_modelarts_writes_them(
    runtime: str, files: list[str], written: list[str], tmp_path: Path
) -> None:
    assert write_output(package(tmp_path / "package", runtime, *files), tmp_path / "out") == written
    assert [path for path in written if not (tmp_path / "out" / path).is_file()] == []


def test_a_model_of_8_bits_says_how_it_is_fed(tmp_path: Path) -> None:
    made = package(tmp_path / "package", "litert", "net/model.tflite", quantization=QUANTIZED, precision="INT8")
    assert write_output(made, tmp_path / "out") == ["model/config.json", "model/model.tflite"]
    stated = json.loads((tmp_path / "out/model/config.json").read_text())
    assert stated["inputs"][0]["name"] == "x"
    assert stated["preprocessing"]["x"]["mean_values"] == [1.0]
    assert (stated["precision"], stated["quantization"]["method"]) == ("INT8", "MINMAX")
