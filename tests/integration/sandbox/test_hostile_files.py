"""Hostile files of every format: each is refused in a sentence, in little time and memory, and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.sandbox import Child, Died, Limits
from tests.unit.formats.hostile import CASES, WILD, Case
from tests.unit.formats.hostile_packages import PACKAGES, UNREAD
from tests.unit.formats.hostile_programs import PROGRAMS, SOUND

# As the registry describes with.
LIMITS = Limits(1 << 30, 300)
READING = Limits(3 << 29, 900)
SECONDS = 10.0
Spawn = Callable[..., Awaitable[Child]]
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
NOT_HERE = {entry.name for entry in FORMATS.values() if not entry.readable}
REFUSED = {*TOLD, "INVALID_SPEC", "INVALID_ARCHITECTURE", "OUT_OF_MEMORY", "TOOLCHAIN_CRASHED"}
COMPUTED = {"caffemodel nested deeply", "net with a giant stride"}
"""What computes something small after all."""
HARM = {
    "pickle that runs a command": "system",
    "checkpoint whose pickle runs a command": "system",
    "program whose extent runs a command": "__import__",
    "program whose extent never ends": "9**9**9**9",
    "program whose example runs a command": "pickled objects",
    "graph whose weights are outside": "etc/passwd",
    "graph whose weights are elsewhere": "/etc/passwd",
    "graph that writes a file": "WriteFile",
    "graph that reads a file": "ReadFile",
    "graph that calls Python": "PyFunc",
    "model with code of its own": "auto_map",
    "model whose weights are outside": "../../../etc/passwd",
    "model whose weights run a command": "system",
    "config that imports what it uploads not": "imports 'os'",
}
"""The same of those that only reading would run."""


def test_every_format_has_hostile_files() -> None:
    assert {case.format for case in CASES.values()} == FORMATS.keys()


def write(cases: Mapping[str, Case], workdir: Path, below: str = "") -> dict[str, str]:
    """Write the files of each case into a folder of its own; return the formats by folder."""
    folders = {}
    for number, case in enumerate(cases.values()):
        folders[f"case-{number}"] = case.format
        for path, data in case.write().items():
            file = workdir / f"case-{number}" / below / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data.encode() if isinstance(data, str) else data)
    return folders


async def test_hostile_files_are_refused(spawn: Spawn, tmp_path: Path) -> None:
    child = await spawn()
    cases = {**CASES, **PACKAGES, **UNREAD}
    folders = write(cases, tmp_path / "work-0")
    told = await child.run("tests.integration.sandbox.hostile_jobs:describe_each", {"folders": folders}, LIMITS)
    wrong = []
    for name, (reason, message, seconds) in zip(cases, (told[folder] for folder in folders), strict=True):
        wanted = (
            {"UNSAFE_MODEL"} if name in RUN else {*TOLD, ""} if name in HARMLESS else {""} if name in UNREAD else TOLD
        )
        if reason not in wanted or seconds > SECONDS or RUN.get(name, "") not in message or "Traceback" in message:
            wrong.append(f"{name}: {reason or 'described'} after {seconds:.1f} s: {message[:300]}")
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.rglob("PWNED"))


async def test_hostile_files_are_refused_by_their_readers(spawn: Spawn, tmp_path: Path) -> None:
    cases, wrong = {**SOUND, **CASES, **PROGRAMS}, []
    told = await read_all(spawn, tmp_path, cases)
    for name, (reason, message, seconds) in told.items():
        named = RUN.get(name, HARM.get(name, ""))
        format_, sound = cases[name].format, name in SOUND or name in COMPUTED
        wanted = {""} if sound else {"UNSAFE_MODEL"} if name in RUN or name in HARM else REFUSED
        if not sound and format_ in NOT_HERE and name not in RUN:
            wanted = REFUSED | {"TOOLCHAIN_UNAVAILABLE"}
        if name == "checkpoint that runs a command":  # read after the configuration, by the toolbox
            wanted, named = {"TOOLCHAIN_UNAVAILABLE"}, ""
        if reason not in wanted or (seconds > SECONDS and name not in SOUND) or "Traceback" in message:
            wrong.append(f"{name}: {reason or 'read'} after {seconds:.1f} s: {message[:300]}")
        elif named not in message:
            wrong.append(f"{name}: {message[:300]}")
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.rglob("PWNED"))


async def read_all(spawn: Spawn, tmp_path: Path, cases: Mapping[str, Case]) -> dict[str, tuple[str, str, float]]:
    """Read cases in one child, and in another one what comes after a case that ends it."""
    told: dict[str, tuple[str, str, float]] = {}
    while rest := {name: case for name, case in cases.items() if name not in told}:
        child, names = await spawn("torch", "transformers"), list(rest)  # whose import is no file's time
        folders, ended = write(rest, child.workdir, "source"), None
        try:
            await child.run("tests.integration.sandbox.hostile_jobs:read_each", {"folders": folders}, READING)
        except EngineFailure as failure:
            ended = failure
        lines = (child.workdir / "told").read_text().splitlines()
        for name, line in zip(names, lines, strict=False):
            _, reason, message, seconds = json.loads(line)
            told[name] = reason, message, seconds
        if ended is not None:
            assert isinstance(ended, Died), ended
            told[names[len(lines)]] = ended.reason.name, ended.message, 0.0
    return told


@pytest.mark.parametrize("name", WILD)
async def test_a_wild_flatbuffer_ends_in_a_failure(
    spawn: Callable[..., Awaitable[Child]], tmp_path: Path, name: str
) -> None:
    child = await spawn()
    (tmp_path / "work-0" / "model.tflite").write_bytes(WILD[name])
    with pytest.raises(EngineFailure) as caught:
        await child.run("tests.integration.sandbox.hostile_jobs:open_tflite", {}, LIMITS)
    assert caught.value.reason in (FailureReason.TOOLCHAIN_CRASHED, FailureReason.INVALID_MODEL)
