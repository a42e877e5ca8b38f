"""How the registry's resources are stored; the tables are made by the migrations."""

from __future__ import annotations

from google.protobuf.message import Message
from lathe.registry.v1.alias_service_pb2 import Alias
from lathe.registry.v1.architecture_service_pb2 import Architecture, Certification
from lathe.registry.v1.dataset_service_pb2 import DATASET_STATE_READY, Dataset, DatasetState, DatasetType
from lathe.registry.v1.model_service_pb2 import Model, ModelFormat, ModelVersion
from lathe.registry.v1.project_service_pb2 import Project
from lathe.registry.v1.release_service_pb2 import Channel

from services.database.pool import Record
from services.registry import naming
from services.resources.filters.fields import NUMBER, TEXT, word_field
from services.resources.kind import ResourceKind
from services.resources.scope import OfParent, Stated

# From the index over (parent, number): one descent.
_NEWEST = "SELECT max(number) FROM model_versions v WHERE v.parent = s.name"

OF_MODEL = OfParent("models", "model")
OF_DATASET = OfParent("datasets", "dataset")


def _count_versions(model: Model, row: Record) -> None:
    model.version_count = row["version_count"]
    model.latest_version = naming.version_name(model.name, row["latest"]) if row["latest"] else ""


# What is shared with other projects names things that these may not see.


def _clear(message: Message, field: str, *names: str) -> None:
    if message.HasField(field):  # to clear a field of what is not there would make it
        for name in names:
            getattr(message, field).ClearField(name)


def _withhold_origin(version: ModelVersion) -> None:
    _clear(version, "lineage", "template", "task")
    _clear(version, "package", "template")


def _withhold_certifier(architecture: Architecture) -> None:
    architecture.ClearField("certified_by")


def _withhold_sources(dataset: Dataset) -> None:
    _clear(dataset, "derivation", "sources")
    _clear(dataset, "mapping", "template")


def _withhold_dataset(channel: Channel) -> None:
    _clear(channel, "rules", "dataset")


PROJECTS = ResourceKind(
    Project,
    table="projects",
    collection="projects",
    noun="project",
    retires_names=lambda _: True,
    # Its members may see it.
    scope=Stated(of=lambda project: project.name),
)

# The numbers of versions are never used again, so that with the model's name theirs are not either.
MODELS = ResourceKind(
    Model,
    table="models",
    collection="models",
    noun="model",
    fields={"version_count": NUMBER},
    live=("version_count", f"CASE WHEN version_count > 0 THEN ({_NEWEST}) END AS latest"),
    complete=_count_versions,
    retires_names=lambda _: True,
    scope=Stated(projects=PROJECTS.table),
    shared_in=("model_versions", "model_version_imports", "aliases", "channels", "artifact_uses"),
)

ARCHITECTURES = ResourceKind(
    Architecture,
    table="architectures",
    collection="architectures",
    noun="architecture",
    columns={
        "class_name": lambda architecture: architecture.class_name,
        "certification": lambda architecture: architecture.certification,
    },
    fields={"class_name": TEXT, "certification": word_field(Certification)},
    unique=("class_name", "display_name"),
    detail_fields=("source", "config"),
    retires_names=lambda _: True,
    id_source=lambda architecture: architecture.class_name,
    searched=lambda architecture: (
        architecture.name.removeprefix("architectures/"),
        architecture.display_name,
        architecture.class_name,
    ),
    scope=Stated(projects=PROJECTS.table),
    withhold=_withhold_certifier,
    shared_in=("artifact_uses",),
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
    fields={"number": NUMBER, "format": word_field(ModelFormat), "device": TEXT},
    # A page of versions with thousands of files each would not fit in a message.
    detail_fields=("files", "parity"),
    # Found by the model's id and number, and by the name of the version or package.
    searched=lambda version: (
        version.name.removeprefix("models/").replace("/versions/", " "),
        version.display_name,
        version.package.file_name,
    ),
    scope=OF_MODEL,
    withhold=_withhold_origin,
)

DATASETS = ResourceKind(
    Dataset,
    table="datasets",
    collection="datasets",
    noun="dataset",
    watched_as="dataset",
    # Nothing reads one that never was READY.
    retires_names=lambda dataset: dataset.state == DATASET_STATE_READY,
    columns={
        "name_key": lambda dataset: dataset.display_name.casefold(),
        "type": lambda dataset: dataset.type,
        "state": lambda dataset: dataset.state,
    },
    fields={"type": word_field(DatasetType), "state": word_field(DatasetState)},
    unique=("name_key",),
    spoken={"name_key": "display_name"},
    # Thousands of files or classes each would leave a page no room.
    detail_fields=("files", "mapping", "report", "classes", "attributes"),
    scope=Stated(projects=PROJECTS.table),
    withhold=_withhold_sources,
    shared_in=("dataset_exports", "artifact_uses"),
)

CHANNELS = ResourceKind(
    Channel,
    table="channels",
    collection="channels",
    noun="channel",
    # Found by the model's id and its own, and by its name.
    searched=lambda channel: (
        channel.name.removeprefix("models/").replace("/channels/", " "),
        channel.display_name,
    ),
    scope=OF_MODEL,
    withhold=_withhold_dataset,
)

# A name of its own is given again: what was created from an alias holds the number of its version.
ALIASES = ResourceKind(
    Alias,
    table="aliases",
    collection="aliases",
    noun="alias",
    columns={"model_version": lambda alias: alias.model_version},
    fields={"model_version": TEXT},
    # Found by the model's id and its own, and by its name.
    searched=lambda alias: (alias.name.removeprefix("models/").replace("/aliases/", " "), alias.display_name),
    scope=OF_MODEL,
)
