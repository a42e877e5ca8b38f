"""The registry's process: models, architectures, datasets, releases and the bytes behind them."""

from __future__ import annotations

import asyncio

import grpc
from lathe.internal.v1.registry_service_pb2_grpc import add_RegistryServiceServicer_to_server
from lathe.registry.v1.alias_service_pb2_grpc import add_AliasServiceServicer_to_server
from lathe.registry.v1.architecture_service_pb2_grpc import add_ArchitectureServiceServicer_to_server
from lathe.registry.v1.artifact_service_pb2_grpc import add_ArtifactServiceServicer_to_server
from lathe.registry.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from lathe.registry.v1.dataset_service_pb2_grpc import add_DatasetServiceServicer_to_server
from lathe.registry.v1.device_service_pb2_grpc import add_DeviceServiceServicer_to_server
from lathe.registry.v1.info_service_pb2_grpc import add_InfoServiceServicer_to_server
from lathe.registry.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from lathe.registry.v1.project_service_pb2_grpc import add_ProjectServiceServicer_to_server
from lathe.registry.v1.release_service_pb2_grpc import add_ReleaseServiceServicer_to_server
from lathe.registry.v1.storage_service_pb2_grpc import add_StorageServiceServicer_to_server
from lathe.watch.v1.watch_service_pb2_grpc import add_WatchServiceServicer_to_server

from services.bus.topology import ensure_topology
from services.changes.publisher import Publisher
from services.database.leases import Leases
from services.platform.background import Work
from services.platform.quotas import CachedQuotas
from services.process.composition import Need, Platform
from services.process.confinement import require_confinement
from services.process.server import ServiceParts, run
from services.process.startup import wait_for
from services.registry.alias_servicer import AliasServicer
from services.registry.aliases import Aliases
from services.registry.architecture_servicer import ArchitectureServicer
from services.registry.architectures import Architectures
from services.registry.artifact_servicer import ArtifactServicer
from services.registry.artifacts import Artifacts
from services.registry.attestation import Attestation
from services.registry.audit_servicer import AuditServicer
from services.registry.blobs import Blobs
from services.registry.creation import Creation
from services.registry.datasets import assembly as datasets_assembly
from services.registry.device_servicer import DeviceServicer
from services.registry.devices import Devices
from services.registry.garbage import assembly as garbage_assembly
from services.registry.info import Info
from services.registry.info_servicer import InfoServicer
from services.registry.internal_servicer import InternalServicer
from services.registry.model_servicer import ModelServicer
from services.registry.models import Models
from services.registry.project_servicer import ProjectServicer
from services.registry.projects import Projects
from services.registry.releases import assembly as releases_assembly
from services.registry.task_sources import TaskSources
from services.registry.verification import verifications
from services.registry.version_imports import VersionImports
from services.registry.versions import Versions
from services.registry.watch.servicer import WatchServicer
from services.registry.watch.tasks import TaskWatch
from services.resources.idempotency import forget_requests
from services.storage import Uploads

NEEDS = (Need.DATABASE, Need.BUS, Need.STORE)
SERVICES = [
    "ModelService",
    "AliasService",
    "ArchitectureService",
    "ArtifactService",
    "AuditService",
    "DatasetService",
    "DeviceService",
    "InfoService",
    "ProjectService",
    "ReleaseService",
    "StorageService",
]
HOUSEKEEPING_SECONDS = 600.0
# Its transactions wake nobody.
PUBLISH_POLL_SECONDS = 0.25


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the registry."""
    await require_confinement(platform.settings)
    database, content = platform.database, platform.cas
    settings = platform.settings
    await wait_for(
        "JetStream",
        "LATHE_NATS_URL",
        settings.nats_url,
        settings.startup_wait_seconds,
        lambda: ensure_topology(platform.bus, kinds=[], devices=[], copies=settings.nats_replicas),
    )
    publisher = Publisher(database, platform.bus, PUBLISH_POLL_SECONDS)
    projects = Projects(platform)
    blobs = Blobs(database, content)
    uploads = Uploads(platform.settings)
    verifying = verifications(database, uploads, blobs, platform.settings)
    quotas = CachedQuotas(projects.limits)
    artifacts = Artifacts(database, content, uploads, blobs, verifying, quotas=quotas)
    architectures = Architectures(database, content, blobs)
    versions = Versions(database, platform.channel("template"))
    datasets = datasets_assembly.assemble(platform, blobs)
    releases = releases_assembly.assemble(platform)
    aliases = Aliases(database)
    attestation = Attestation(content, blobs, platform.settings)
    creation = Creation(database, content, blobs, architectures, attestation, folder=settings.work_dir)
    imports = VersionImports(platform, creation)
    garbage = garbage_assembly.assemble(platform, datasets.index_files, projects)

    def register(server: grpc.aio.Server) -> None:
        add_ProjectServiceServicer_to_server(ProjectServicer(projects), server)
        add_ArtifactServiceServicer_to_server(ArtifactServicer(artifacts, datasets.items), server)
        add_ArchitectureServiceServicer_to_server(ArchitectureServicer(architectures), server)
        add_DatasetServiceServicer_to_server(datasets.servicer, server)
        add_ModelServiceServicer_to_server(ModelServicer(Models(database), versions, creation, imports), server)
        add_InfoServiceServicer_to_server(InfoServicer(Info(platform)), server)
        add_DeviceServiceServicer_to_server(DeviceServicer(Devices(platform.bus)), server)
        add_AuditServiceServicer_to_server(AuditServicer(platform), server)
        add_AliasServiceServicer_to_server(AliasServicer(aliases), server)
        add_ReleaseServiceServicer_to_server(releases.servicer, server)
        add_StorageServiceServicer_to_server(garbage.servicer, server)
        add_WatchServiceServicer_to_server(WatchServicer(TaskWatch(platform)), server)
        add_RegistryServiceServicer_to_server(
            InternalServicer(
                database, projects, versions, creation, TaskSources(database), datasets.selections, datasets.holds
            ),
            server,
        )

    async def keep_house() -> None:
        while True:
            await artifacts.expire()
            await versions.forget_expired_holds()
            await datasets.holds.forget_expired()
            await forget_requests(database)
            await Leases(database).forget_ended()
            await garbage.collections.keep_up()
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    works: list[Work] = [
        publisher.run,
        keep_house,
        datasets.imports.run,
        datasets.exports.run,
        imports.operations.runner.run,
        verifying.run,
        garbage.collections.operations.runner.run,
        releases.reconciler.heal,
    ]
    names = [*(f"lathe.registry.v1.{service}" for service in SERVICES), "lathe.watch.v1.WatchService"]
    return ServiceParts(register, names, works, aliases.look_up, projects.roles, quotas, tells_references=False)


def main() -> None:
    """Be the registry."""
    run("registry", build, NEEDS)


if __name__ == "__main__":
    main()
