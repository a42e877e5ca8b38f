"""Puts channels, releases and compatibility together."""

from __future__ import annotations

from dataclasses import dataclass

from lathe.evaluator.v1.evaluation_service_pb2_grpc import EvaluationServiceStub

from services.process.composition import Platform
from services.registry.releases.approvals import Approvals
from services.registry.releases.channels import Channels
from services.registry.releases.gate import Gate
from services.registry.releases.history import Releases
from services.registry.releases.machines import Machines
from services.registry.releases.reconciler import Reconciler
from services.registry.releases.repository import ModelRepositories
from services.registry.releases.servicer import ReleaseServicer


@dataclass(frozen=True)
class ReleaseParts:
    """Parts that the process runs: the servicer, and the reconciler of interrupted work."""

    servicer: ReleaseServicer
    reconciler: Reconciler


def assemble(platform: Platform) -> ReleaseParts:
    """Return the parts, over the process's connections."""
    database, content = platform.database, platform.cas
    repositories = ModelRepositories(platform.settings)
    reconciler = Reconciler(database, repositories)
    gate = Gate(EvaluationServiceStub(platform.channel("evaluator")))
    releases = Releases(database, content, repositories, reconciler, gate)
    channels = Channels(database, repositories, reconciler)
    return ReleaseParts(
        ReleaseServicer(channels, releases, Approvals(database), Machines(database, content)), reconciler
    )
