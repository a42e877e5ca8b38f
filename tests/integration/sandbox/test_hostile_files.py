"""Hostile files of every format: each is refused in a sentence, in little time and memory, and runs nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.sandbox import Child, Limits
from tests.unit.formats.hostile import CASES, WILD

# As the registry describes with.
LIMITS = Limits(1 << 30, 300)
SECONDS = 10.0
TOLD = {"INVALID_MODEL", "UNSAFE_MODEL", "WEIGHTS_MISMATCH", "UNSUPPORTED_OPERATOR"}
HARMLESS = {
    # What of them is a model is described: nobody asks for the rest.
    "caffemodel nested deeply",
    "SavedModel nested deeply",
}
RUN = {
    "config that runs a command": "imports 'os'",
    "config that climbs to a class": "__subclasses__",
    "config that builds on what is outside": "not in the upload",
    "checkpoint that runs a command": "system",
    "YAML that runs a command": "os.system",
}
"""What a refusal names of those that would have run, or read, something."""


def test_every_format_has_hostile_files() -> None:
    assert {case.format for case in CASES.values()} == FORMATS.keys()


async def test_hostile_files_are_refused(spawn: Callable[..., Awaitable[Child]], tmp_path: Path) -> None:
    child = await spawn()
    workdir = tmp_path / "work-0"
    folders = {}
    for number, (name, case) in enumerate(CASES.items()):
        folders[f"case-{number}"] = case.format
        for path, data in case.write().items():
            file = workdir / f"case-{number}" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data.encode() if isinstance(data, str) else data)
        assert name
    told = await child.run("tests.integration.sandbox.hostile_jobs:describe_each", {"folders": folders}, LIMITS)
    wrong = []
    for name, (reason, message, seconds) in zip(CASES, (told[folder] for folder in folders), strict=True):
        wanted = {"UNSAFE_MODEL"} if name in RUN else {*TOLD, ""} if name in HARMLESS else TOLD
        if reason not in wanted or seconds > SECONDS or RUN.get(name, "") not in message or "Traceback" in message:
            wrong.append(f"{name}: {reason or 'described'} after {seconds:.1f} s: {message[:300]}")
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize("name", WILD)
async def test_a_wild_flatbuffer_ends_in_a_failure(
    spawn: Callable[..., Awaitable[Child]], tmp_path: Path, name: str
) -> None:
    child = await spawn()
    (tmp_path / "work-0" / "model.tflite").write_bytes(WILD[name])
    with pytest.raises(EngineFailure) as caught:
        await child.run("tests.integration.sandbox.hostile_jobs:open_tflite", {}, LIMITS)
    assert caught.value.reason in (FailureReason.TOOLCHAIN_CRASHED, FailureReason.INVALID_MODEL)
