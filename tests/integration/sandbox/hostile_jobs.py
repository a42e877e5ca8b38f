"""Entry functions that read hostile files. They run in the sandbox's children only."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from engines.api.description import describe
from engines.failures import EngineFailure
from engines.runtimes.litert.opener import open_file
from engines.runtimes.protocol import BuiltForm
from engines.runtimes.session import open_session
from engines.sandbox import Reporter


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


def open_tflite(_request: dict[str, Any], workdir: Path, _report: Reporter) -> dict[str, Any]:
    """Open `model.tflite` as an evaluation opens the form of a package."""
    options = {"inputs": "{}", "outputs": "[]"}
    form = BuiltForm("litert", "cpu-x86-64", "FP32", workdir, ("model.tflite",), (), options)
    open_session("LiteRT", open_file, form, 1)
    return {}
