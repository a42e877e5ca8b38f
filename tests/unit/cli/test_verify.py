"""`lathe verify`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engines.package.provenance import FILE_NAME, read_signer, write
from services.cli.exit_codes import ExitCode
from tests.unit.cli.conftest import Lathe
from tests.unit.package.test_provenance import FILES, contents, pair, unpacked

PREDICATE = {
    "buildDefinition": {
        "buildType": "lathe:lathe.converter.v1.ConversionTask",
        "externalParameters": {"spec": {"model_version": "models/net/versions/1"}},
        "internalParameters": {
            "work": {"template": {"device": "cpu-x86-64", "runtime": "openvino", "precision": "PRECISION_FP32"}},
            "environment": {"machine": "x86_64", "software": [{"name": "openvino", "version": "2026.4"}]},
        },
        "resolvedDependencies": [{"name": f"source/{number}", "digest": {"sha256": "0" * 64}} for number in range(7)],
    },
    "runDetails": {"builder": {"version": {"lathe": "0.2.0"}}, "metadata": {"invocationId": "conversionTasks/one"}},
    "lathe_verification": {"net": {"verdict": "VERDICT_PASS", "verified_on": "a processor"}},
}


@pytest.fixture
def signed(tmp_path: Path) -> tuple[str, str]:
    """A package in a folder, and the public key of whoever signed it."""
    secret, public = pair(tmp_path)
    text = write(contents(FILES), PREDICATE, read_signer(secret))
    return str(unpacked(tmp_path / "package", FILES | {FILE_NAME: text})), str(public)


def test_a_package_that_is_as_it_was_made_is_shown(lathe: Lathe, signed: tuple[str, str]) -> None:
    package, key = signed
    ended = lathe("verify", package, "--key", key)
    assert ended.code == 0, ended.err
    shown = ("conversionTasks/one", "cpu-x86-64 openvino FP32", "PASS a processor", "source/0", "and 2 more")
    assert all(text in ended.out for text in (*shown, "openvino 2026.4", "machine x86_64", "models/net/versions/1"))
    assert "All 4 files are as the provenance says, and it is signed by the key" in ended.err


def test_files_that_differ_fail(lathe: Lathe, signed: tuple[str, str]) -> None:
    package, key = signed
    Path(package, "manifest.json").write_bytes(b"other")
    Path(package, "more\x1b[2J").touch()
    ended = lathe("verify", package, "--key", key)
    assert ended.code == ExitCode.FAILED
    assert "CHANGED" in ended.out
    assert "ADDED" in ended.out
    assert "\x1b[2J" not in ended.out
    assert "2 files differ from what was made" in ended.err
    found = json.loads(lathe("verify", package, "--key", key, "-o", "json").out)
    assert found["signature"] == "GOOD"
    assert found["findings"][0] == {"path": "manifest.json", "difference": "CHANGED"}


def test_another_key_fails_and_no_key_is_no_proof(lathe: Lathe, signed: tuple[str, str], tmp_path: Path) -> None:
    package, _ = signed
    _, other = pair(tmp_path, name="other")
    ended = lathe("verify", package, "--key", str(other))
    assert (ended.code, "None of the given keys signed it" in ended.err) == (ExitCode.FAILED, True)
    ended = lathe("verify", package)
    assert (ended.code, "give that public key with --key" in ended.err) == (ExitCode.UNSIGNED, True)
    Path(package, FILE_NAME).write_bytes(write(contents(FILES), PREDICATE, None))
    ended = lathe("verify", package, "--key", str(other))
    assert (ended.code, "It is UNSIGNED" in ended.err) == (ExitCode.UNSIGNED, True)


def test_a_provenance_that_says_nothing_of_use_is_shown_too(lathe: Lathe, signed: tuple[str, str]) -> None:
    package, _ = signed
    strange: dict[str, Any] = {"buildDefinition": [], "runDetails": None, "lathe_verification": {"net": 1}}
    Path(package, FILE_NAME).write_bytes(write(contents(FILES), strange, None))
    assert lathe("verify", package).code == ExitCode.UNSIGNED


def test_what_is_no_package_is_told(lathe: Lathe, tmp_path: Path) -> None:
    ended = lathe("verify", str(tmp_path))
    assert (ended.code, f"has no {FILE_NAME}" in ended.err) == (ExitCode.FAILED, True)
