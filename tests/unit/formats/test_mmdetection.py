"""Detectors of MMDetection without MMDetection: their files are found, described and refused as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engines.failures import EngineFailure, FailureReason
from engines.formats.detection import detect
from engines.formats.mmdetection import MMDetection
from engines.formats.mmdetection.config_files import find
from tests.unit.formats.reading import read

CONFIG = "model = dict(type='RetinaNet', bbox_head=dict(num_classes=3))\n"


def upload(folder: Path, files: dict[str, str], *checkpoints: str) -> Path:
    """Write an upload: texts by path, and checkpoints as mmengine writes them."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in checkpoints or ("epoch_12.pth",):
        meta = {"epoch": 12, "cfg": CONFIG, "dataset_meta": {"classes": ("a", "b", "c")}}
        torch.save({"meta": meta, "state_dict": {"backbone.weight": torch.zeros(2, 3)}}, folder / name)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        CONFIG,
        "model = {'type': 'YOLOX'}\n",
        "_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py']\n",
        "from mmengine.config import read_base\nwith read_base():\n    from mmdet.configs.x import *\n",
    ],
)
def test_the_format_is_told_from_the_configuration(tmp_path: Path, text: str) -> None:
    assert detect(upload(tmp_path, {"config.py": text})) == "MMDETECTION"


@pytest.mark.parametrize("text", ["model = Network()\n", "import torch\n", "model = dict(", "x" * 2**20 + "=1"])
def test_other_python_files_are_no_configuration(tmp_path: Path, text: str) -> None:
    assert detect(upload(tmp_path, {"net.py": text})) == "PTH"


def test_a_description_has_the_tensors_and_the_configuration(tmp_path: Path) -> None:
    upload(tmp_path, {"configs/base.py": CONFIG, "config.py": "_base_ = './configs/base.py'\nlr = 1\n"})
    [graph] = MMDetection().describe(tmp_path, "epoch_12.pth")
    assert graph["parameter_count"] == 6
    assert graph["metadata"]["configuration"] == "config.py"
    assert graph["metadata"]["state_dict_key"] == "state_dict"


def test_the_losses_of_mmengine_are_passed_over(tmp_path: Path) -> None:
    """`message_hub` holds objects of mmengine, which name `getattr`: nothing of them is created."""
    import zipfile

    upload(tmp_path, {"config.py": CONFIG})
    losses = b"cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}(X\x03\x00\x00\x00mincbuiltins\ngetattr\n"
    losses += b"cmmengine.logging.history_buffer\nHistoryBuffer\nX\x03\x00\x00\x00min\x86Rub"
    path = tmp_path / "epoch_12.pth"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    # The dictionary gets one more entry before it ends.
    entries[name] = entries[name][:-1] + b"X\x0b\x00\x00\x00message_hub" + losses + b"s."
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    [graph] = MMDetection().describe(tmp_path, "epoch_12.pth")
    assert "message_hub" in graph["checkpoint_keys"]
    from engines.formats.pytorch.checkpoint import load_beside, load_state_dict

    assert list(load_state_dict(path, usual="state_dict")) == ["backbone.weight"]
    assert load_beside(path)["meta"]["dataset_meta"]["classes"] == ("a", "b", "c")


def test_the_configuration_of_a_checkpoint(tmp_path: Path) -> None:
    upload(tmp_path, {"one.py": CONFIG, "two.py": CONFIG}, "one.pth", "two.pth")
    assert find(tmp_path, "two.pth").config.name == "two.py"
    assert find(tmp_path, "one.pth").config.name == "one.py"
    with pytest.raises(EngineFailure, match=r"2 checkpoints: one.pth, two.pth. Set `source_file`"):
        find(tmp_path)
    (tmp_path / "two.pth").rename(tmp_path / "last.pth")
    with pytest.raises(
        EngineFailure, match=r"which configuration 'last.pth' belongs to; the upload has: one.py, two.py"
    ):
        find(tmp_path, "last.pth")


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("import os\nos.system('true')\n" + CONFIG, "UNSAFE_MODEL", r"imports 'os'.*\(config.py:1\)"),
        (CONFIG + "from subprocess import run\n", "UNSAFE_MODEL", r"imports 'subprocess'.*\(config.py:2\)"),
        (CONFIG + "\nx = __import__('os')\n", "UNSAFE_MODEL", r"uses '__import__'.*\(config.py:3\)"),
        (CONFIG + "x = ().__class__\n", "UNSAFE_MODEL", r"uses '.__class__'.*\(config.py:2\)"),
        (CONFIG + "x = open('/etc/passwd').read()\n", "UNSAFE_MODEL", r"uses 'open'.*\(config.py:2\)"),
        ("_base_ = '/etc/passwd'\n", "UNSAFE_MODEL", r"builds on '/etc/passwd' \(config.py:1\), which is not in"),
        (CONFIG + "_base_ = ['../other/base.py']\n", "UNSAFE_MODEL", r"builds on '../other/base.py' \(config.py:2\)"),
        ("_base_ = 'https://example.org/base.py'\n", "UNSAFE_MODEL", "builds on 'https://example.org/base.py'"),
        ("_base_ = 'mmdet::../../os.py'\n", "", "os.py"),
        ("_base_ = './base.py'\n", "INVALID_MODEL", r"builds on './base.py' \(config.py:1\), which is not among"),
        ("_base_ = ['a' + 'b']\n", "INVALID_MODEL", r"computes '_base_'.*\(config.py:1\)"),
        (
            "from mmengine.config import read_base\nwith read_base():\n    from ...elsewhere import *\n",
            "UNSAFE_MODEL",
            r"builds on '../../elsewhere.py' \(config.py:3\)",
        ),
        (
            CONFIG + "custom_imports = dict(imports=['mine.heads'])\n",
            "UNSAFE_MODEL",
            r"imports 'mine.heads' by custom_imports, which is not among the uploaded files \(config.py:2\)",
        ),
        (CONFIG + "custom_imports = names()\n", "INVALID_MODEL", r"computes 'custom_imports'.*\(config.py:2\)"),
    ],
)
def test_what_a_configuration_may_not_do(tmp_path: Path, text: str, reason: str, words: str) -> None:
    """It is refused when it is described, and nothing of it has run."""
    upload(tmp_path, {"config.py": text})
    with pytest.raises(EngineFailure, match=words) as raised:
        MMDetection().describe(tmp_path, "epoch_12.pth")
    assert raised.value.reason == (reason or raised.value.reason)
    assert raised.value.suggested_fix


def test_custom_modules_that_are_uploaded(tmp_path: Path) -> None:
    files = {
        "configs/net.py": CONFIG + "custom_imports = dict(imports=['mine.heads'], allow_failed_imports=False)\n",
        "mine/heads.py": "class Head: ...\n",
    }
    assert find(upload(tmp_path, files)).modules == (("mine.heads", tmp_path),)


def test_a_base_of_a_base_is_looked_through_too(tmp_path: Path) -> None:
    files = {"config.py": "_base_ = 'a.py'\n", "a.py": "_base_ = 'b.py'\n", "b.py": "import os\n" + CONFIG}
    with pytest.raises(EngineFailure, match=r"imports 'os'.*\(b.py:1\)"):
        find(upload(tmp_path, files))


def test_weights_are_never_downloaded(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG + "load_from = 'https://example.org/weights.pth'\n", encoding="utf-8")
    assert detect(tmp_path) == "MMDETECTION"
    with pytest.raises(EngineFailure, match="no checkpoint beside it; weights are never downloaded"):
        MMDetection().describe(tmp_path, "config.py")


def test_without_the_toolbox_the_operator_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    packages: dict[str, Any] = {"mmdet": None, "mmdet.models": None}
    for name, nothing in packages.items():
        monkeypatch.setitem(sys.modules, name, nothing)
    monkeypatch.setitem(sys.modules, "mmcv._ext", None)
    upload(tmp_path / "source", {"config.py": CONFIG})
    with pytest.raises(EngineFailure, match="Detectors of MMDetection cannot be read here: mmdet is not") as raised:
        read("MMDETECTION", tmp_path)
    assert raised.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert raised.value.suggested_fix == "The operator of the worker has to install `lathe[mmdetection]`."


def test_configurations_that_build_on_each_other_are_told(tmp_path: Path) -> None:
    upload(tmp_path, {"a.py": "_base_ = './b.py'\n", "b.py": "_base_ = './a.py'\n" + CONFIG})
    with pytest.raises(EngineFailure, match="build on each other in a circle"):
        find(tmp_path)
