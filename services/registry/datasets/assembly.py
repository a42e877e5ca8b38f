"""Puts the dataset service together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.operations.runner import Runner
from services.process.composition import Platform
from services.registry.blobs import Blobs
from services.registry.datasets.archive import Archives
from services.registry.datasets.catalog import Catalog
from services.registry.datasets.contents import Contents
from services.registry.datasets.exports import Exports
from services.registry.datasets.handlers import Datasets
from services.registry.datasets.holds import Holds
from services.registry.datasets.import_results import ImportResults
from services.registry.datasets.imports import Imports, import_backlog
from services.registry.datasets.index_files import IndexFiles
from services.registry.datasets.items import Items
from services.registry.datasets.job import ImportJob
from services.registry.datasets.mapping import Mappings
from services.registry.datasets.preview import Previews
from services.registry.datasets.selection import Selections
from services.registry.datasets.servicer import DatasetServicer
from services.registry.datasets.watch import DatasetWatch


@dataclass(frozen=True)
class DatasetParts:
    """What the registry runs of datasets."""

    servicer: DatasetServicer
    imports: Runner
    exports: Runner
    selections: Selections
    holds: Holds
    index_files: IndexFiles
    items: Items


def assemble(platform: Platform, blobs: Blobs) -> DatasetParts:
    """Build everything that datasets need."""
    database, content, settings = platform.database, platform.cas, platform.settings
    work = settings.work_dir
    backlog = import_backlog(database, timedelta(seconds=settings.ack_wait_seconds))
    catalog = Catalog(database, backlog)
    contents = Contents(content, blobs)
    job = ImportJob(content, contents, work)
    imports = Runner(backlog, Imports(catalog, job, ImportResults(catalog, backlog)), settings.max_attempts)
    index_files = IndexFiles(content, settings.data_dir / "registry" / "indexes", settings.cache_bytes)
    items = Items(catalog, index_files)
    exports = Exports(platform, catalog, Archives(database, content, blobs, work))
    servicer = DatasetServicer(
        datasets=Datasets(catalog, imports, blobs, Mappings(platform.channel("template"))),
        catalog=catalog,
        items=items,
        previews=Previews(items, content, contents, work),
        exports=exports,
        watch=DatasetWatch(catalog, platform.bus),
    )
    selections = Selections(catalog, index_files, content, blobs, work)
    return DatasetParts(servicer, imports, exports.operations.runner, selections, Holds(database), index_files, items)
