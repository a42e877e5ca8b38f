"""Detectors of Detectron2 without Detectron2: their files are found, described and refused as they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from engines.failures import EngineFailure, FailureReason
from engines.formats.detection import detect
from engines.formats.detectron2 import Detectron2
from engines.formats.detectron2.config_files import find
from tests.unit.formats.reading import read

CONFIG = "MODEL:\n  META_ARCHITECTURE: RetinaNet\n"


def upload(folder: Path, files: dict[str, str]) -> Path:
    """Write an upload: texts by path, and a checkpoint as training writes it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    torch.save({"model": {"head.weight": torch.zeros(2, 3)}, "iteration": 9}, folder / "model_final.pth")
    return folder


@pytest.mark.parametrize("text", [CONFIG, "_BASE_: base.yaml\nSOLVER: {MAX_ITER: 1}\n"])
def test_the_format_is_told_from_the_configuration(tmp_path: Path, text: str) -> None:
    assert detect(upload(tmp_path, {"config.yaml": text})) == "DETECTRON2"


@pytest.mark.parametrize("text", ["width: 32\n", "MODEL: large\n", "- 1\n", "a: [", "MODEL: {LARGE: 1}\n"])
def test_other_yaml_files_are_no_configuration(tmp_path: Path, text: str) -> None:
    assert detect(upload(tmp_path, {"sizes.yaml": text})) == "PTH"


def test_a_description_has_the_tensors_and_the_configuration(tmp_path: Path) -> None:
    upload(tmp_path, {"base/base.yaml": CONFIG, "config.yaml": "_BASE_: base/base.yaml\n"})
    [graph] = Detectron2().describe(tmp_path, "model_final.pth")
    assert graph["parameter_count"] == 6
    assert graph["metadata"]["configuration"] == "config.yaml"
    assert graph["metadata"]["state_dict_key"] == "model"


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        (
            CONFIG + "X: !!python/object/apply:os.system ['true']\n",
            "UNSAFE_MODEL",
            r"config.yaml:3\): the tag 'tag:yaml",
        ),
        (
            "_BASE_: ../base.yaml\n" + CONFIG,
            "UNSAFE_MODEL",
            r"builds on '../base.yaml' \(config.yaml:1\), which is not in",
        ),
        (CONFIG + "_BASE_: /etc/hosts\n", "UNSAFE_MODEL", r"builds on '/etc/hosts' \(config.yaml:3\)"),
        ("_BASE_: https://example.org/a.yaml\n", "UNSAFE_MODEL", "builds on 'https://example.org/a.yaml'"),
        ("_BASE_: a.yaml\n", "INVALID_MODEL", r"builds on 'a.yaml' \(config.yaml:1\), which is not among"),
        ("_BASE_: [a.yaml]\n", "INVALID_MODEL", "'_BASE_' of 'config.yaml' must be a path"),
    ],
)
def test_what_a_configuration_may_not_do(tmp_path: Path, text: str, reason: str, words: str) -> None:
    upload(tmp_path, {"config.yaml": text})
    with pytest.raises(EngineFailure, match=words) as raised:
        Detectron2().describe(tmp_path, "model_final.pth")
    assert raised.value.reason == reason
    assert raised.value.suggested_fix


def test_bases_in_a_circle_end(tmp_path: Path) -> None:
    files = {"config.yaml": "_BASE_: a.yaml\n", "a.yaml": "_BASE_: b.yaml\n", "b.yaml": "_BASE_: a.yaml\n" + CONFIG}
    assert find(upload(tmp_path, files)).config.name == "config.yaml"


def test_weights_are_never_downloaded(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG + "  WEIGHTS: https://example.org/a.pkl\n", encoding="utf-8")
    assert detect(tmp_path) == "DETECTRON2"
    with pytest.raises(EngineFailure, match="no checkpoint beside it; weights are never downloaded"):
        Detectron2().describe(tmp_path, "config.yaml")


def test_without_the_toolbox_the_operator_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("detectron2", "detectron2.config"):
        monkeypatch.setitem(sys.modules, name, None)
    upload(tmp_path / "source", {"config.yaml": CONFIG})
    with pytest.raises(EngineFailure, match="Detectors of Detectron2 cannot be read here: detectron2 is not") as raised:
        read("DETECTRON2", tmp_path)
    assert raised.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "lathe[detectron2]" in raised.value.suggested_fix
