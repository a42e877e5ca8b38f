"""What the demo asks of the services: the calls that a user's own script would make."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.documents import read_document
from services.cli.failures import CliError
from services.cli.transfers import download_files, upload_files

if TYPE_CHECKING:
    from lathe.registry.v1.architecture_service_pb2 import Architecture
    from lathe.registry.v1.model_service_pb2 import ModelVersion
    from lathe.template.v1.template_service_pb2 import Template
    from lathe_client.connection import Connection

FOLDER = Path(__file__).parent


def register_architecture(connection: Connection, file: str, class_name: str) -> Architecture:
    """Register an architecture of the demo; if an earlier demo did, bring it up to date."""
    import grpc
    from google.protobuf.field_mask_pb2 import FieldMask
    from lathe.registry.v1.architecture_service_pb2 import (
        Architecture,
        CreateArchitectureRequest,
        GetArchitectureRequest,
        UpdateArchitectureRequest,
    )

    source = (FOLDER / file).read_text(encoding="utf-8")
    architecture = Architecture(display_name=f"Demo {class_name}", class_name=class_name, source=source)
    try:
        return connection.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=architecture))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise
    name = f"architectures/{class_name.lower()}"
    existing = connection.architectures.GetArchitecture(GetArchitectureRequest(name=name))
    if existing.source == source:
        return existing
    architecture.name = name
    request = UpdateArchitectureRequest(architecture=architecture, update_mask=FieldMask(paths=["source"]))
    return connection.architectures.UpdateArchitecture(request)


def create_template(connection: Connection, file: str, template_id: str) -> Template:
    """Create a template of the demo; if an earlier demo did, bring it up to date."""
    import grpc
    from google.protobuf.field_mask_pb2 import FieldMask
    from lathe.template.v1.template_service_pb2 import CreateTemplateRequest, Template, UpdateTemplateRequest

    template = read_document(FOLDER / file, Template())
    try:
        return connection.templates.CreateTemplate(CreateTemplateRequest(template=template, template_id=template_id))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise
    template.name = f"templates/{template_id}"
    return connection.templates.UpdateTemplate(
        UpdateTemplateRequest(template=template, update_mask=FieldMask(paths=["*"]))
    )


def push(connection: Connection, model: str, file: Path, architecture: str = "") -> ModelVersion:
    """Upload a checkpoint with its architecture, or else an ONNX file, and add it to a model as its next version."""
    from lathe.registry.v1.model_service_pb2 import (
        MODEL_FORMAT_ONNX,
        MODEL_FORMAT_PTH,
        CreateModelVersionRequest,
        ModelVersion,
    )

    from services.cli.models import ensure_model

    ensure_model(connection, model)
    version = ModelVersion(
        format=MODEL_FORMAT_PTH if architecture else MODEL_FORMAT_ONNX,
        files=upload_files(connection, [file]),
        architecture=architecture,
    )
    request = CreateModelVersionRequest(parent=f"models/{model}", model_version=version)
    return connection.models.CreateModelVersion(request)


def convert(connection: Connection, version: str, template: str, runtime: str, *, skip_cache: bool) -> Any:
    """Convert for a runtime, wait, and return the task; CliError if it did not succeed."""
    from lathe.converter.v1.conversion_service_pb2 import ConversionSpec, ConversionTask, CreateConversionTaskRequest
    from lathe.template.v1.template_service_pb2 import Template, TemplateOverrides

    overrides = TemplateOverrides(values=Template(runtime=runtime))
    spec = ConversionSpec(model_version=version, template=template, overrides=overrides)
    task = connection.conversions.CreateConversionTask(
        CreateConversionTaskRequest(task=ConversionTask(spec=spec), skip_cache=skip_cache)
    )
    return succeeded(connection, task.name)


def profile(connection: Connection, version: str, report: Path) -> Any:
    """Measure a version as it is, save the report, and return the task; CliError if it did not succeed."""
    from lathe.optimizer.v1.profile_service_pb2 import CreateProfileTaskRequest, ProfileSpec, ProfileTask

    from services.cli.waiting import save_report

    request = CreateProfileTaskRequest(task=ProfileTask(spec=ProfileSpec(model_version=version)))
    task = succeeded(connection, connection.profiles.CreateProfileTask(request).name)
    save_report(connection, task.result.html_report, report)
    return task


def succeeded(connection: Connection, task: str) -> Any:
    """Wait for a task, print its result, and return it.

    Raises:
        CliError: The task did not succeed.
    """
    from services.cli.exit_codes import ExitCode
    from services.cli.watching import tell, wait

    ended = wait(connection, task)
    code = tell(ended)
    if code not in (ExitCode.OK, ExitCode.PARITY_WARN):
        raise CliError(f"{task} did not succeed.", code)
    return ended


def download_package(connection: Connection, version: str, folder: Path) -> None:
    """Fetch the package into a folder."""
    from lathe.registry.v1.model_service_pb2 import GetModelVersionRequest

    found = connection.models.GetModelVersion(GetModelVersionRequest(name=version))
    download_files(connection, found.files, folder)


def run_package(folder: Path, inputs: Mapping[str, Any]) -> Any:
    """Run the package's own `infer.py` on arrays by input, in a process of its own, and return its first output.

    Raises:
        CliError: `infer.py` failed.
    """
    import numpy as np

    given, answers = folder / "demo_inputs.npz", folder / "demo_answers.npz"
    np.savez(given, **inputs)
    command = [sys.executable, "-I", str(folder / "infer.py"), "--input", str(given), "--output", str(answers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CliError(f"infer.py failed: {done.stderr.strip()[-500:]}")
    with np.load(answers) as outputs:
        return next(iter(outputs.values()))


def manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a downloaded package."""
    values: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return values
