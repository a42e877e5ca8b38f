"""What can be done with datasets, their items aside."""

from __future__ import annotations

from collections.abc import Sequence

from lathe.internal.v1.selection_pb2 import FileList
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_AWAITING_CONFIRMATION,
    DATASET_STATE_IMPORT_CANCELLED,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    CreateDatasetRequest,
    Dataset,
    DatasetState,
    DeriveDatasetRequest,
    UpdateDatasetRequest,
)
from lathe.type.v1.digest_pb2 import File

from services.database.pool import Connection
from services.operations.runner import Runner
from services.platform.errors import failed_precondition, missing_references
from services.platform.interceptors.validation import check
from services.platform.words import word
from services.registry.blobs import Blobs, add_uses, drop_uses
from services.registry.datasets import rules
from services.registry.datasets.catalog import Catalog, not_ready
from services.registry.datasets.holds import refuse_held
from services.registry.datasets.mapping import Mappings
from services.registry.kinds import DATASETS


class Datasets:
    """Creates, derives, confirms, changes and deletes datasets."""

    def __init__(self, catalog: Catalog, imports: Runner, blobs: Blobs, mappings: Mappings) -> None:
        self._catalog = catalog
        self._imports = imports
        self._blobs = blobs
        self._mappings = mappings

    async def create(self, request: CreateDatasetRequest) -> Dataset:
        """Create a dataset whose import goes on by itself.

        Raises:
            LatheError: INVALID_ARGUMENT for bad paths and a mapping that cannot be; NOT_FOUND for the template of the
                mapping (REFERENCE_NOT_FOUND); FAILED_PRECONDITION for files that are not stored (BLOB_NOT_FOUND);
                ALREADY_EXISTS for a taken id or name.
        """
        if not request.validate_only and (earlier := await self._catalog.first_made(request)):
            return await self._begun(earlier)
        self._catalog.store.require_creation(request.dataset)
        dataset = rules.new_import(request.dataset)
        if dataset.HasField("mapping"):
            await self._mappings.complete(dataset.mapping)
        rules.require_room(dataset)
        await self._blobs.require(dataset.files)

        return await self._begin(request, dataset, _terms(accept_mismatches=request.accept_mismatches))

    async def derive(self, request: DeriveDatasetRequest) -> Dataset:
        """Create a dataset from the items of others.

        Raises:
            LatheError: NOT_FOUND for a source that does not exist (REFERENCE_NOT_FOUND); FAILED_PRECONDITION for
                one that is not READY (DATASET_NOT_READY); ALREADY_EXISTS for a taken id or name.
        """
        if not request.validate_only and (earlier := await self._catalog.first_made(request)):
            return await self._begun(earlier)
        self._catalog.store.require_creation(request.dataset)
        dataset = rules.new_derivation(request.dataset)
        rules.require_room(dataset)
        sources = await self._sources(dataset.derivation.sources)
        # By their digests: if a source is deleted in the meantime, its bytes stay.
        indexes = FileList(
            files=[File(path=f"source/{number}.parquet", digest=each.index) for number, each in enumerate(sources)]
        )
        return await self._begin(request, dataset, _terms(indexes=indexes))

    async def confirm(self, name: str) -> Dataset:
        """Let an import go on although the class mapping does not fit.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason NOT_AWAITING_CONFIRMATION.
        """

        def change(dataset: Dataset) -> None:
            if dataset.state != DATASET_STATE_AWAITING_CONFIRMATION:
                raise failed_precondition(
                    "NOT_AWAITING_CONFIRMATION",
                    f"'{name}' is {word(DatasetState, dataset.state)}: only an import that is AWAITING_CONFIRMATION "
                    "can be confirmed.",
                    subject=name,
                )
            dataset.state = DATASET_STATE_IMPORTING

        async def begin(connection: Connection, _before: Dataset, after: Dataset) -> None:
            await self._imports.backlog.begin(connection, after.name, **_terms(accept_mismatches=True))

        return await self._begun(await self._catalog.store.modify(name, change, on_change=begin))

    async def cancel_import(self, name: str) -> Dataset:
        """End the import of a dataset, for good.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_IMPORTING.
        """

        def change(dataset: Dataset) -> None:
            if dataset.state in {DATASET_STATE_READY, DATASET_STATE_IMPORT_FAILED}:
                raise failed_precondition(
                    "DATASET_NOT_IMPORTING",
                    f"'{name}' is {word(DatasetState, dataset.state)}: its import has ended. Delete the dataset, "
                    "if it is not wanted.",
                    subject=name,
                )
            dataset.state = DATASET_STATE_IMPORT_CANCELLED

        async def drop(connection: Connection, _before: Dataset, after: Dataset) -> None:
            await self._imports.backlog.drop(connection, after.name)

        cancelled = await self._catalog.store.modify(name, change, on_change=drop)
        self._imports.stop(name)
        return cancelled

    async def update(self, request: UpdateDatasetRequest) -> Dataset:
        """Change the fields of the mask.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; INVALID_ARGUMENT for a bad value or mask; ALREADY_EXISTS
                for a taken name.
        """
        mask = request.update_mask

        def validate(dataset: Dataset) -> None:
            check(dataset, inside="dataset", changed=mask)

        changed = await self._catalog.store.update(request.dataset, mask, rules.CHANGEABLE, validate)
        return (await self._catalog.with_progress([changed]))[0]

    async def delete(self, name: str, etag: str) -> None:
        """Delete a dataset, and end its import if that goes on. What it holds stays in the store, which others share.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; FAILED_PRECONDITION, reason IN_USE, while a task uses it.
        """

        async def remove(connection: Connection, dataset: Dataset) -> None:
            await refuse_held(connection, dataset)
            await drop_uses(connection, [name])

        await self._catalog.store.delete(name, etag, on_delete=remove)
        self._imports.stop(name)

    async def _sources(self, names: Sequence[str]) -> list[Dataset]:
        found = await self._catalog.store.get_many(names)
        missing = [name for name in names if name not in found]
        if missing:
            wrong = [("dataset.derivation.sources", f"There is no dataset named '{name}'.") for name in missing]
            raise missing_references(wrong)
        for name in names:
            if found[name].state != DATASET_STATE_READY:
                raise not_ready(found[name])
        return [found[name] for name in names]

    async def _begin(
        self, request: CreateDatasetRequest | DeriveDatasetRequest, dataset: Dataset, terms: dict[str, object]
    ) -> Dataset:
        """Create a dataset and its import, which has the further columns `terms`, in one transaction."""

        async def begin(connection: Connection, made: Dataset) -> None:
            await add_uses(connection, DATASETS.table, made.name, made.name, (file.digest for file in made.files))
            await self._imports.backlog.begin(connection, made.name, **terms)

        made = await self._catalog.store.create(
            dataset,
            resource_id=request.dataset_id,
            request_id=request.request_id,
            request=request,
            on_create=begin,
            validate_only=request.validate_only,
        )
        return made if request.validate_only else await self._begun(made)

    async def _begun(self, dataset: Dataset) -> Dataset:
        self._imports.wake()
        return (await self._catalog.with_progress([dataset]))[0]


def _terms(*, accept_mismatches: bool = False, indexes: FileList | None = None) -> dict[str, object]:
    """Return the further columns of an import: whether a mapping that does not fit is accepted, and the sources."""
    return {"accept_mismatches": accept_mismatches, "indexes": (indexes or FileList()).SerializeToString()}
