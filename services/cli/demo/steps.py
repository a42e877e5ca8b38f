"""What the demo asks of the services: the calls that a user's own script would make."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.documents import read_document
from services.cli.failures import CliError
from services.cli.transfers import download_files, upload_files

if TYPE_CHECKING:
    from lathe.registry.v1.architecture_service_pb2 import Architecture
    from lathe.registry.v1.model_service_pb2 import ModelVersion
    from lathe.template.v1.template_service_pb2 import Template

    from services.cli.client import Connection
    from services.cli.demo.training import TrainedDigits

MODEL = "demo-digits"
TEMPLATE = Path(__file__).with_name("template.yaml")
ARCHITECTURE = Path(__file__).with_name("digits_cnn.py")


def register_architecture(connection: Connection) -> Architecture:
    """Register the architecture; where an earlier demo did, bring it up to date."""
    import grpc
    from google.protobuf.field_mask_pb2 import FieldMask
    from lathe.registry.v1.architecture_service_pb2 import (
        Architecture,
        CreateArchitectureRequest,
        GetArchitectureRequest,
        UpdateArchitectureRequest,
    )

    architecture = Architecture(display_name="Demo digits CNN", class_name="DigitsCNN", source=ARCHITECTURE.read_text())
    try:
        return connection.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=architecture))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise
    name = "architectures/digitscnn"
    existing = connection.architectures.GetArchitecture(GetArchitectureRequest(name=name))
    if existing.source == architecture.source:
        return existing
    architecture.name = name
    request = UpdateArchitectureRequest(architecture=architecture, update_mask=FieldMask(paths=["source"]))
    return connection.architectures.UpdateArchitecture(request)


def create_template(connection: Connection) -> Template:
    """Create the template; where an earlier demo did, bring it up to date."""
    import grpc
    from google.protobuf.field_mask_pb2 import FieldMask
    from lathe.template.v1.template_service_pb2 import CreateTemplateRequest, Template, UpdateTemplateRequest

    template = read_document(TEMPLATE, Template())
    try:
        return connection.templates.CreateTemplate(CreateTemplateRequest(template=template, template_id="demo-digits"))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise
    template.name = "templates/demo-digits"
    return connection.templates.UpdateTemplate(
        UpdateTemplateRequest(template=template, update_mask=FieldMask(paths=["*"]))
    )


def push_weights(connection: Connection, checkpoint: Path, architecture: str) -> ModelVersion:
    """Upload the checkpoint and add it to the demo's model as its next version."""
    from lathe.registry.v1.model_service_pb2 import PTH, CreateModelVersionRequest, ModelVersion

    from services.cli.models import ensure_model

    ensure_model(connection, MODEL)
    version = ModelVersion(format=PTH, files=upload_files(connection, [checkpoint]), architecture=architecture)
    request = CreateModelVersionRequest(parent=f"models/{MODEL}", model_version=version)
    return connection.models.CreateModelVersion(request)


def convert(connection: Connection, version: str, template: str, runtime: str, *, skip_cache: bool) -> Any:
    """Convert for a runtime, wait, and return the task.

    Raises:
        CliError: The task did not succeed.
    """
    from lathe.converter.v1.conversion_service_pb2 import ConversionSpec, ConversionTask, CreateConversionTaskRequest
    from lathe.template.v1.template_service_pb2 import Template, TemplateOverrides

    from services.cli.exit_codes import ExitCode
    from services.cli.watching import tell, wait

    overrides = TemplateOverrides(values=Template(runtime=runtime))
    spec = ConversionSpec(model_version=version, template=template, overrides=overrides)
    task = connection.conversions.CreateConversionTask(
        CreateConversionTaskRequest(task=ConversionTask(spec=spec), skip_cache=skip_cache)
    )
    task = wait(connection, task.name)
    code = tell(task)
    if code is not ExitCode.OK:
        raise CliError("The conversion did not succeed.", code)
    return task


def download_package(connection: Connection, version: str, folder: Path) -> None:
    """Fetch the package into a folder."""
    from lathe.registry.v1.model_service_pb2 import GetModelVersionRequest

    found = connection.models.GetModelVersion(GetModelVersionRequest(name=version))
    download_files(connection, found.files, folder)


def run_package(folder: Path, digits: TrainedDigits) -> float:
    """Run the package's own `infer.py` on the held-out images, in a process of its own, and return its accuracy.

    Raises:
        CliError: `infer.py` failed.
    """
    import numpy as np

    images, answers = folder / "held_out.npy", folder / "answers.npz"
    np.save(images, digits.images)
    command = [sys.executable, "-I", str(folder / "infer.py"), "--input", str(images), "--output", str(answers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CliError(f"infer.py failed: {done.stderr.strip()[-500:]}")
    with np.load(answers) as outputs:
        predicted = next(iter(outputs.values())).argmax(1)
    return float((predicted == digits.labels).mean())


def manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a downloaded package."""
    values: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return values
