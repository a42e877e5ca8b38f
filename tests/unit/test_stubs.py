"""What other teams install: the stubs alone, with the versions of protobuf and gRPC that they have.

`STUBS_FROM_INDEX=1 pytest tests/unit/test_stubs.py` also installs the least and the newest versions from the package
index, each in an environment of its own, and calls a server through the stubs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from packaging.requirements import Requirement

PROTOS = Path(__file__).parents[2] / "protos"
DECLARED = tomllib.loads((PROTOS / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORT_ALL = """
import importlib, pathlib, lathe
root = pathlib.Path(list(lathe.__path__)[0])
for path in sorted(root.rglob("*_pb2*.py")):
    importlib.import_module(".".join(path.relative_to(root.parent).with_suffix("").parts))
"""
CALL = """
from concurrent import futures
import grpc
from lathe.converter.v1 import conversion_service_pb2 as pb, conversion_service_pb2_grpc as rpc

class Service(rpc.ConversionServiceServicer):
    def GetConversionTask(self, request, context):
        return pb.ConversionTask(name=request.name, labels={"a": "b"})

server = grpc.server(futures.ThreadPoolExecutor(1))
rpc.add_ConversionServiceServicer_to_server(Service(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    request = pb.GetConversionTaskRequest(name="conversionTasks/x")
    task = rpc.ConversionServiceStub(channel).GetConversionTask(request, timeout=120)
assert (task.name, dict(task.labels)) == ("conversionTasks/x", {"a": "b"})
server.stop(0)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    source = folder / "protos"
    shutil.copytree(PROTOS, source, ignore=shutil.ignore_patterns(".generator", "build", "*.egg-info", "__pycache__"))
    code = f"import setuptools.build_meta as build; print(build.build_wheel({str(folder)!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True)
    return folder / built.stdout.split()[-1]


def test_the_package_asks_for_grpc_and_protobuf_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    asked = [Requirement(line.partition(": ")[2]) for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    always = [each for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert {each.name for each in always} == {"grpcio", "protobuf"}
    assert {str(each) for each in always} == {str(Requirement(text)) for text in DECLARED["dependencies"]}
    # What another package may have too is not overwritten.
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"lathe", "lathe_client"}


def test_the_package_has_nothing_of_what_services_say_to_each_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "internal" in name]
        described = descriptor_pb2.FileDescriptorSet.FromString(archive.read("lathe/descriptors.binpb"))
    packages = {file.package for file in described.file}
    assert "lathe.converter.v1" in packages
    assert "lathe.internal.v1" not in packages


def test_the_stubs_need_nothing_else(wheel: Path) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(('buf', 'protovalidate', 'google.api', 'google.rpc')))\n"
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    subprocess.run([sys.executable, "-c", block + IMPORT_ALL + CALL], check=True, env=environment, cwd=wheel.parent)


def test_the_generated_code_holds_nobody_to_a_newer_version() -> None:
    for path in (PROTOS / "gen").rglob("*_pb2*.py"):
        text = path.read_text(encoding="utf-8")
        assert "ValidateProtobufRuntimeVersion" not in text, path
        assert "GRPC_GENERATED_VERSION" not in text, path


def least() -> list[str]:
    """Return the oldest versions that the package says it runs with."""
    bounds = [(Requirement(text).name, Requirement(text).specifier) for text in DECLARED["dependencies"]]
    return [f"{name}=={each.version}" for name, bound in bounds for each in bound if each.operator == ">="]


@pytest.mark.skipif("STUBS_FROM_INDEX" not in os.environ, reason="installs from the package index")
@pytest.mark.parametrize(
    "versions", [least(), ["protobuf", "grpcio"], ["protovalidate"]], ids=["least", "newest", "beside-protovalidate"]
)
def test_the_stubs_run_with_the_versions_that_they_declare(wheel: Path, tmp_path: Path, versions: list[str]) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel, *versions], check=True)
    subprocess.run([python, "-c", IMPORT_ALL + CALL], check=True, cwd=tmp_path)
