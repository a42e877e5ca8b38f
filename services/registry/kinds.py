"""How models, versions and architectures are stored; the tables are made by the migrations."""

from __future__ import annotations

from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.model_service_pb2 import Model, ModelVersion

from services.common.resources import ResourceKind

MODELS = ResourceKind(Model, table="models", collection="models", noun="model")

ARCHITECTURES = ResourceKind(
    Architecture,
    table="architectures",
    collection="architectures",
    noun="architecture",
    columns={
        "class_name": lambda architecture: architecture.class_name,
        "certification": lambda architecture: architecture.certification,
    },
    unique=("class_name", "display_name"),
    detail_fields=("source", "config"),
    id_source=lambda architecture: architecture.class_name,
    searched=lambda architecture: (
        architecture.name.removeprefix("architectures/"),
        architecture.display_name,
        architecture.class_name,
    ),
)

VERSIONS = ResourceKind(
    ModelVersion,
    table="model_versions",
    collection="versions",
    noun="model version",
    columns={
        "number": lambda version: int(version.name.rsplit("/", 1)[1]),
        "format": lambda version: version.format,
        "device": lambda version: version.package.device,
    },
    # A page of versions with thousands of files each would not fit in a message.
    detail_fields=("files", "parity"),
    # Found by the model's id and number, and by the name of the version or package.
    searched=lambda version: (
        version.name.removeprefix("models/").replace("/versions/", " "),
        version.display_name,
        version.package.file_name,
    ),
)
