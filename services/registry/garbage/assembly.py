"""Puts the collection of garbage together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.process.composition import Platform
from services.registry.datasets.index_files import IndexFiles
from services.registry.garbage.collections import Collections
from services.registry.garbage.collector import Collector
from services.registry.garbage.gathering import References
from services.registry.garbage.servicer import StorageServicer
from services.registry.garbage.usage import Usages
from services.registry.projects import Projects
from services.storage.bucket import Bucket
from services.storage.removal import Removal


@dataclass(frozen=True)
class GarbageParts:
    """What the registry runs to remove what nobody refers to."""

    servicer: StorageServicer
    collections: Collections


def assemble(platform: Platform, indexes: IndexFiles, projects: Projects) -> GarbageParts:
    """Build everything that collections need."""
    settings = platform.settings
    collector = Collector(
        platform.database,
        References(platform, indexes),
        Removal(Bucket.of(settings)),
        timedelta(hours=settings.gc_grace_hours),
    )
    collections = Collections(platform.database, collector, settings)
    return GarbageParts(StorageServicer(collections, Usages(platform, projects)), collections)
