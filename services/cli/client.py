"""The connection of a command to the services: their addresses, the caller, and the stubs."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from services.cli.options import current_options
from services.local.endpoints import read_endpoints
from services.local.roster import SERVICES

if TYPE_CHECKING:
    import grpc
    from lathe.converter.v1.conversion_service_pb2_grpc import ConversionServiceStub
    from lathe.evaluator.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
    from lathe.optimizer.v1.optimization_service_pb2_grpc import OptimizationServiceStub
    from lathe.quantizer.v1.quantization_service_pb2_grpc import QuantizationServiceStub
    from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
    from lathe.registry.v1.artifact_service_pb2_grpc import ArtifactServiceStub
    from lathe.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
    from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
    from lathe.registry.v1.release_service_pb2_grpc import ReleaseServiceStub
    from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub


def find_addresses(flags: Mapping[str, str], environment: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """Return service → host:port: from the flags, else the environment, else the running stack, else the usual port."""
    running = read_endpoints(data_dir)
    usual = {entry.name: f"127.0.0.1:{entry.port}" for entry in SERVICES}
    named = {
        entry.name: environment[entry.address_variable] for entry in SERVICES if environment.get(entry.address_variable)
    }
    return {**usual, **(running.addresses() if running else {}), **named, **flags}


def connect() -> Connection:
    """Return the connection for the running command, from its options and the environment."""
    options = current_options()
    return Connection(
        find_addresses(options.addresses, os.environ, options.data_dir),
        token=os.environ.get("LATHE_TOKEN", ""),
        user=os.environ.get("USER") or getpass.getuser(),
    )


class Connection:
    """Stubs of the services, over one channel per service, made when first used. A context manager.

    Every call carries the caller's name (and token), and a deadline of a minute if the call sets none; a stream
    has none.

    Args:
        addresses: Service name → host:port.
        token: Bearer token, or empty.
        user: Name of the caller.
    """

    def __init__(self, addresses: Mapping[str, str], *, token: str = "", user: str = "") -> None:
        self.addresses = dict(addresses)
        self._metadata = [("x-lathe-user", user)] if user else []
        if token:
            self._metadata.append(("authorization", f"Bearer {token}"))
        self._channels: dict[str, grpc.Channel] = {}

    def channel(self, service: str) -> grpc.Channel:
        """Return the channel to a service, such as "registry"."""
        if service not in self._channels:
            import grpc

            from services.cli.calls import CallerIdentity

            # No proxy: the environment's web proxy must not apply to the services.
            channel = grpc.insecure_channel(self.addresses[service], options=[("grpc.enable_http_proxy", 0)])
            self._channels[service] = grpc.intercept_channel(channel, CallerIdentity(self._metadata))
        return self._channels[service]

    @cached_property
    def models(self) -> ModelServiceStub:
        """Models and their versions."""
        from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub

        return ModelServiceStub(self.channel("registry"))

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
        """Optimization tasks, saving, and groups."""
        from lathe.optimizer.v1.optimization_service_pb2_grpc import OptimizationServiceStub

        return OptimizationServiceStub(self.channel("optimizer"))

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

    def __enter__(self) -> Self:
        """Return the connection itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every channel."""
        self.close()
