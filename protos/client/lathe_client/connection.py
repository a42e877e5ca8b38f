"""The connection to an installation: addresses, the caller, and the generated stubs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import grpc
    from lathe.converter.v1.conversion_service_pb2_grpc import ConversionServiceStub
    from lathe.evaluator.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
    from lathe.optimizer.v1.optimization_service_pb2_grpc import OptimizationServiceStub
    from lathe.optimizer.v1.profile_service_pb2_grpc import ProfileServiceStub
    from lathe.quantizer.v1.quantization_service_pb2_grpc import QuantizationServiceStub
    from lathe.registry.v1.alias_service_pb2_grpc import AliasServiceStub
    from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
    from lathe.registry.v1.artifact_service_pb2_grpc import ArtifactServiceStub
    from lathe.registry.v1.audit_service_pb2_grpc import AuditServiceStub
    from lathe.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
    from lathe.registry.v1.device_service_pb2_grpc import DeviceServiceStub
    from lathe.registry.v1.info_service_pb2_grpc import InfoServiceStub
    from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
    from lathe.registry.v1.project_service_pb2_grpc import ProjectServiceStub
    from lathe.registry.v1.release_service_pb2_grpc import ReleaseServiceStub
    from lathe.registry.v1.storage_service_pb2_grpc import StorageServiceStub
    from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub
    from lathe.watch.v1.watch_service_pb2_grpc import WatchServiceStub

C = TypeVar("C", bound="Connection")

PORTS = {
    "registry": 50051,
    "template": 50052,
    "converter": 50053,
    "quantizer": 50054,
    "optimizer": 50055,
    "evaluator": 50056,
}
"""Usual port of each service."""


class Connection:
    """Stubs of the services, over one channel per service, made when first used. A context manager that
    threads may share.

    Every call carries the caller's name and token, and a deadline of a minute if it sets none. What a service refuses
    raises `LatheError`.

    Args:
        addresses: Service → host:port, with `https://` before it if it speaks TLS. Those that are missing are taken
            from LATHE_<SERVICE>_ADDRESS, else the usual port of this machine.
        token: Bearer token; LATHE_TOKEN if not given.
        user: Name of the caller for an installation without tokens.
        ca_file: Certificates of the authorities that signed those of the services, in PEM; LATHE_TLS_CA_FILE if not
            given. With one, every address speaks TLS that does not begin with `http://`.
        project: `projects/{project}` of what is created and states none; LATHE_PROJECT if not given, else the services
            choose: the project of the model for tasks, `projects/default` for the rest.
    """

    def __init__(
        self,
        addresses: Mapping[str, str] | None = None,
        *,
        token: str | None = None,
        user: str = "",
        ca_file: str | None = None,
        project: str | None = None,
    ) -> None:
        named_project = os.environ.get("LATHE_PROJECT", "") if project is None else project
        is_short = named_project and not named_project.startswith("projects/")
        self.project = f"projects/{named_project}" if is_short else named_project
        self.ca_file = os.environ.get("LATHE_TLS_CA_FILE", "") if ca_file is None else ca_file
        usual = {name: f"127.0.0.1:{port}" for name, port in PORTS.items()}
        named = {name: os.environ.get(f"LATHE_{name.upper()}_ADDRESS", "") or usual[name] for name in PORTS}
        self.addresses: dict[str, str] = {**named, **(addresses or {})}
        token = os.environ.get("LATHE_TOKEN", "") if token is None else token
        self._metadata = [("x-lathe-user", user)] if user else []
        if token:
            self._metadata.append(("authorization", f"Bearer {token}"))
        self._channels: dict[str, grpc.Channel] = {}

    def channel(self, service: str) -> grpc.Channel:
        """Return the channel to a service, such as "registry"."""
        if service not in self._channels:
            import grpc

            from lathe_client.calls import Caller
            from lathe_client.tls import open_channel

            # No proxy: the environment's web proxy must not apply to the services.
            channel = open_channel(self.addresses[service], self.ca_file, [("grpc.enable_http_proxy", 0)])
            self._channels[service] = grpc.intercept_channel(channel, Caller(self._metadata, self.project))
        return self._channels[service]

    @cached_property
    def models(self) -> ModelServiceStub:
        """Models and their versions."""
        from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub

        return ModelServiceStub(self.channel("registry"))

    @cached_property
    def devices(self) -> DeviceServiceStub:
        """Devices, their workers and queues."""
        from lathe.registry.v1.device_service_pb2_grpc import DeviceServiceStub

        return DeviceServiceStub(self.channel("registry"))

    @cached_property
    def info(self) -> InfoServiceStub:
        """The installation, and who the caller is."""
        from lathe.registry.v1.info_service_pb2_grpc import InfoServiceStub

        return InfoServiceStub(self.channel("registry"))

    @cached_property
    def projects(self) -> ProjectServiceStub:
        """Projects and their members."""
        from lathe.registry.v1.project_service_pb2_grpc import ProjectServiceStub

        return ProjectServiceStub(self.channel("registry"))

    @cached_property
    def audit(self) -> AuditServiceStub:
        """The audit log."""
        from lathe.registry.v1.audit_service_pb2_grpc import AuditServiceStub

        return AuditServiceStub(self.channel("registry"))

    @cached_property
    def storage(self) -> StorageServiceStub:
        """Stub for what the object store holds."""
        from lathe.registry.v1.storage_service_pb2_grpc import StorageServiceStub

        return StorageServiceStub(self.channel("registry"))

    @cached_property
    def aliases(self) -> AliasServiceStub:
        """Aliases of versions."""
        from lathe.registry.v1.alias_service_pb2_grpc import AliasServiceStub

        return AliasServiceStub(self.channel("registry"))

    @cached_property
    def watches(self) -> WatchServiceStub:
        """Changes of tasks of all kinds."""
        from lathe.watch.v1.watch_service_pb2_grpc import WatchServiceStub

        return WatchServiceStub(self.channel("registry"))

    @cached_property
    def architectures(self) -> ArchitectureServiceStub:
        """Architectures."""
        from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub

        return ArchitectureServiceStub(self.channel("registry"))

    @cached_property
    def artifacts(self) -> ArtifactServiceStub:
        """Uploads and downloads."""
        from lathe.registry.v1.artifact_service_pb2_grpc import ArtifactServiceStub

        return ArtifactServiceStub(self.channel("registry"))

    @cached_property
    def datasets(self) -> DatasetServiceStub:
        """Datasets and their items."""
        from lathe.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub

        return DatasetServiceStub(self.channel("registry"))

    @cached_property
    def releases(self) -> ReleaseServiceStub:
        """Channels and releases."""
        from lathe.registry.v1.release_service_pb2_grpc import ReleaseServiceStub

        return ReleaseServiceStub(self.channel("registry"))

    @cached_property
    def templates(self) -> TemplateServiceStub:
        """Templates."""
        from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub

        return TemplateServiceStub(self.channel("template"))

    @cached_property
    def conversions(self) -> ConversionServiceStub:
        """Conversion tasks."""
        from lathe.converter.v1.conversion_service_pb2_grpc import ConversionServiceStub

        return ConversionServiceStub(self.channel("converter"))

    @cached_property
    def quantizations(self) -> QuantizationServiceStub:
        """Quantization tasks."""
        from lathe.quantizer.v1.quantization_service_pb2_grpc import QuantizationServiceStub

        return QuantizationServiceStub(self.channel("quantizer"))

    @cached_property
    def optimizations(self) -> OptimizationServiceStub:
        """Optimization tasks, and saving."""
        from lathe.optimizer.v1.optimization_service_pb2_grpc import OptimizationServiceStub

        return OptimizationServiceStub(self.channel("optimizer"))

    @cached_property
    def profiles(self) -> ProfileServiceStub:
        """Profile tasks."""
        from lathe.optimizer.v1.profile_service_pb2_grpc import ProfileServiceStub

        return ProfileServiceStub(self.channel("optimizer"))

    @cached_property
    def evaluations(self) -> EvaluationServiceStub:
        """Evaluation tasks and comparisons."""
        from lathe.evaluator.v1.evaluation_service_pb2_grpc import EvaluationServiceStub

        return EvaluationServiceStub(self.channel("evaluator"))

    def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def __enter__(self: C) -> C:
        """Return the connection itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every channel."""
        self.close()
