"""Directories in the form of another platform, pushed and written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import grpc
import pytest
from lathe.registry.v1.model_service_pb2 import Lineage, Model, ModelFormat, ModelVersion, PackageInfo
from lathe.type.v1.digest_pb2 import Digest, File
from lathe.type.v1.task_pb2 import LogLines

from services.cli.exit_codes import ExitCode
from services.platform.words import word
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import RefusedError, Suite
from tests.unit.package.test_manifest import MANIFEST


def store(suite: Suite, files: dict[str, bytes]) -> list[File]:
    found = []
    for path, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        suite.blobs[digest] = content
        found.append(File(path=path, digest=Digest(sha256=digest, size_bytes=len(content))))
    return found


@pytest.fixture
def version(suite: Suite) -> ModelVersion:
    files = {"net/model.xml": b"<net/>", "manifest.json": json.dumps(MANIFEST).encode(), "infer.py": b""}
    made = ModelVersion(
        name="models/net/versions/2",
        files=store(suite, files),
        package=PackageInfo(repo="net"),
        lineage=Lineage(task="conversionTasks/one"),
    )
    suite.answers["GetModelVersion"] = made
    return made


def test_a_package_and_the_log_of_its_task_are_written(
    suite: Suite, lathe: Lathe, version: ModelVersion, tmp_path: Path
) -> None:
    lines = LogLines()
    lines.lines.add(number=1, text="converted")
    suite.answers["StreamConversionTaskLogs"] = [lines]
    ended = lathe("models", "download", "net/2", "--layout", "modelarts", "-d", str(tmp_path / "out"))
    assert ended.code == 0, ended.err
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert written == {"model/model.xml", "job_log.txt"}
    assert (tmp_path / "out/job_log.txt").read_text().endswith("converted\n")


def test_a_log_that_is_gone_is_told_and_not_invented(
    suite: Suite, lathe: Lathe, version: ModelVersion, tmp_path: Path
) -> None:
    suite.answers["StreamConversionTaskLogs"] = RefusedError(grpc.StatusCode.NOT_FOUND)
    ended = lathe("models", "download", "net/2", "--layout", "modelarts", "-d", str(tmp_path))
    assert (ended.code, "conversionTasks/one was deleted" in ended.err) == (0, True)
    assert not (tmp_path / "job_log.txt").exists()


def test_what_is_no_package_has_no_such_form(suite: Suite, lathe: Lathe, version: ModelVersion, tmp_path: Path) -> None:
    version.ClearField("package")
    ended = lathe("models", "download", "net/2", "--layout", "modelarts", "-d", str(tmp_path))
    assert (ended.code, "is no package of Lathe" in ended.err) == (ExitCode.USAGE, True)


def test_the_model_of_a_directory_is_pushed_and_the_rest_is_told(suite: Suite, lathe: Lathe, tmp_path: Path) -> None:
    for name, content in {
        "net.prototxt": 'layer { name: "x" type: "Input" }',
        "net.caffemodel": "x",
        "insert_op_conf.cfg": "aipp_op { }",
    }.items():
        (tmp_path / name).write_text(content)
    suite.answers["GetModel"] = Model(name="models/net")
    suite.answers["CreateModelVersion"] = lambda request: request.model_version
    ended = lathe("models", "push", "net", str(tmp_path), "--layout", "modelarts")
    assert ended.code == 0, ended.err
    pushed = suite.asked["CreateModelVersion"][0].model_version
    assert word(ModelFormat, pushed.format) == "CAFFE"
    assert [file.path for file in pushed.files] == ["net.caffemodel", "net.prototxt"]
    assert "--runtime-option insert_op_conf=" in ended.err


def test_a_directory_that_breaks_the_rules_is_not_pushed(suite: Suite, lathe: Lathe, tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_text("x")
    ended = lathe("models", "push", "net", str(tmp_path), "--layout", "modelarts")
    assert (ended.code, "no files *.prototxt" in " ".join(ended.err.split())) == (ExitCode.USAGE, True)
    assert not suite.asked["CreateModelVersion"]
