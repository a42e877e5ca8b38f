"""Following a dataset until its import has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_IMPORT_CANCELLED,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_READY,
    Dataset,
)

from services.bus.connection import Bus
from services.bus.listening import listening, wait_for_any
from services.bus.topology import stored_subject
from services.registry.datasets.catalog import Catalog

_ENDED = frozenset({DATASET_STATE_READY, DATASET_STATE_IMPORT_FAILED, DATASET_STATE_IMPORT_CANCELLED})
# The progress changes without a change of the dataset.
_LOOK_SECONDS = 1.0


class DatasetWatch:
    """Follows datasets."""

    def __init__(self, catalog: Catalog, bus: Bus) -> None:
        self._catalog = catalog
        self._bus = bus

    async def follow(self, name: str) -> AsyncIterator[Dataset]:
        """Yield a dataset now and after every change, until its import has ended. Raises LatheError NOT_FOUND."""
        sent = await self._catalog.get(name)
        yield sent
        async with listening(self._bus, stored_subject("dataset", sent.uid)) as changed:
            while sent.state not in _ENDED:
                await wait_for_any(changed, _LOOK_SECONDS)
                changed.clear()
                dataset = await self._catalog.get(name)
                if dataset != sent:
                    sent = dataset
                    yield sent
