"""Entry functions that read hostile files. They run in the sandbox's children only."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from engines.api.description import describe
from engines.failures import EngineFailure
from engines.formats.preparation import prepare
from engines.formats.reading import check_sources, with_components
from engines.runtimes.litert.opener import open_file
from engines.runtimes.protocol import BuiltForm
from engines.runtimes.session import open_session
from engines.sandbox import Reporter
from engines.sandbox.audit import Auditor
from engines.sandbox.faults import from_exception
from engines.spec.request import ConversionRequest

STATE_NO_INPUTS = {"PTH", "TORCHSCRIPT", "SAVED_MODEL", "FROZEN_GRAPH"}
ARCHITECTURE = """from torch import nn


@architecture("N")
def build():
    return nn.Linear(4, 4)
"""


def describe_each(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Describe the files of each folder; return what each said, and the seconds of the processor that it took."""
    told: dict[str, tuple[str, str, float]] = {}
    for number, (folder, claimed) in enumerate(request["folders"].items()):
        report.progress(number / len(request["folders"]), folder)
        root = workdir / folder
        files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        began, reason, message = time.process_time(), "", ""
        try:
            describe({"format": claimed, "files": files, "root": folder}, workdir, report)
        except EngineFailure as failure:
            reason, message = failure.reason.name, failure.message
        except Exception as error:  # as the sandbox would tell it
            reason, message = "INTERNAL_ERROR", repr(error)
        told[folder] = (reason, message[:2000], time.process_time() - began)
    return told


def read_each(request: dict[str, Any], workdir: Path, _report: Reporter) -> dict[str, Any]:
    """Read the files below `source` of each folder as a conversion does, and make its graph ready.

    What each said is in the file `told` at once, a line of JSON each, as some end this process.
    """
    with (workdir / "told").open("w") as told:
        for folder, claimed in request["folders"].items():
            began, failure = time.process_time(), {"reason": "", "message": ""}
            try:
                read(workdir / folder, claimed)
            except Exception as error:  # as the sandbox would tell it
                failure = from_exception(error, Auditor(workdir, [], lambda _: None)).to_dict()
            seconds = time.process_time() - began
            told.write(json.dumps([folder, failure["reason"], failure["message"][:2000], seconds]) + "\n")
            told.flush()
    return {}


def read(folder: Path, claimed: str) -> None:
    component: dict[str, Any] = {"name": "model"}
    if claimed in STATE_NO_INPUTS:
        component["inputs"] = [{"name": "x", "shape": [1, 4], "dtype": "float32"}]
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    (folder / "net.py").write_text(ARCHITECTURE)
    template = {
        "source_format": claimed,
        "device": "cpu-x86-64",
        "runtime": "onnxruntime",
        "components": [component],
    }
    architecture = {"class_name": "N", "function": "build", "source_path": "net.py"}
    request = ConversionRequest.parse(
        {
            "inputs": [{"path": file} for file in files],
            "template": template,
            "architectures": {"model": architecture} if claimed == "PTH" else {},
        }
    )
    check_sources(request)
    request = with_components(request, folder)
    for part in request.template.components:
        assert prepare(request, part, folder, lambda *_: None).ready.is_file()


def open_tflite(_request: dict[str, Any], workdir: Path, _report: Reporter) -> dict[str, Any]:
    """Open `model.tflite` as an evaluation opens the form of a package."""
    options = {"inputs": "{}", "outputs": "[]"}
    form = BuiltForm("litert", "cpu-x86-64", "FP32", workdir, ("model.tflite",), (), options)
    open_session("LiteRT", open_file, form, 1)
    return {}
