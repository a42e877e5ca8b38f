"""What a dataset holds, page by page, and one item to look at."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lathe.registry.v1.dataset_service_pb2 import (
    Box,
    Dataset,
    DatasetItem,
    ListDatasetItemsRequest,
    ListDatasetItemsResponse,
)
from lathe.type.v1.digest_pb2 import Digest

from engines.datasets.items import LABEL, Item
from services.platform.errors import invalid_argument, not_found
from services.registry.datasets.catalog import Catalog
from services.registry.datasets.index_files import IndexFiles
from services.resources.filters.fields import NUMBER, TEXT, TEXTS, Fields, FilterField, Kind, Tests, checked
from services.resources.paging import Position, decode_token, encode_token, page_size

# A page has to stay under gRPC's 4 MiB.
_MAX_PAGE_BYTES = 3_000_000
_FIELDS: Fields = {
    "path": TEXT,
    "width": NUMBER,
    "height": NUMBER,
    "row": NUMBER,
    "classifications": FilterField(Kind.MAP),
    "attributes": FilterField(Kind.MAP),
    LABEL: TEXTS,
}


class Items:
    """Reads items from the indexes of datasets."""

    def __init__(self, catalog: Catalog, files: IndexFiles) -> None:
        self._catalog = catalog
        self._files = files

    async def page(self, request: ListDatasetItemsRequest) -> ListDatasetItemsResponse:
        """Return one page of items.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_READY; INVALID_ARGUMENT for a bad page size
                or filter, or a token of another dataset or filter.
        """
        size = page_size(request.page_size)
        dataset = await self._catalog.ready(request.parent)
        tests = checked(request.filter, _FIELDS) if request.filter.strip() else None
        query = [dataset.uid, dataset.index.sha256, request.filter]
        start = 0
        if request.page_token:
            (start,) = decode_token(request.page_token, query, [int]).values  # type: ignore[assignment]
        found, following = await self._files.read(dataset.index, _read_page, dataset.name, start, size, tests)
        token = "" if following is None else encode_token(Position((following,)), query)
        total = 0 if tests else dataset.item_count
        return ListDatasetItemsResponse(items=found, next_page_token=token, total_size=total)

    async def item(self, name: str) -> tuple[Dataset, int, Item]:
        """Return the dataset, the number and the item that `datasets/{dataset}/items/{number}` names.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_READY.
        """
        parent, _, text = name.rpartition("/items/")
        dataset, number = await self._catalog.ready(parent), int(text)
        if number >= dataset.item_count:
            raise not_found("dataset item", name)
        return dataset, number, await self._files.read(dataset.index, _read_item, number)

    async def content(self, name: str, sha256: str) -> Digest:
        """Return the digest of an item's content, which is expected to have this SHA-256.

        Raises:
            LatheError: INVALID_ARGUMENT if it has another; otherwise as `item`.
        """
        _, _, item = await self.item(name)
        if item.sha256 != sha256:
            raise invalid_argument("dataset_item", f"The content of '{name}' is artifacts/{item.sha256}; name that.")
        return Digest(sha256=item.sha256, size_bytes=item.size_bytes)


def message_of(dataset: str, number: int, item: Item) -> DatasetItem:
    """Return an item as the API has it."""
    return DatasetItem(
        name=f"{dataset}/items/{number}",
        path=item.path,
        content=Digest(sha256=item.sha256, size_bytes=item.size_bytes),
        width=item.width,
        height=item.height,
        classifications=item.classifications,
        boxes=[
            Box(label=box.label, x=box.x, y=box.y, width=box.width, height=box.height, crowd=box.crowd)
            for box in item.boxes
        ],
        attributes=item.attributes,
        row=item.row,
    )


def _read_page(
    path: Path, dataset: str, start: int, size: int, tests: Tests | None
) -> tuple[list[DatasetItem], int | None]:
    """Return the items that fit in an answer, and the number of the first one after them."""
    # In the thread, when first asked for: it loads Arrow.
    from engines.datasets import index
    from services.registry.datasets.item_filter import looked_at, meant

    if tests:
        found, following = index.page(path, start, size, partial(meant, tests), looked_at(tests))
    else:
        found, following = index.page(path, start, size)
    messages: list[DatasetItem] = []
    room = _MAX_PAGE_BYTES
    for number, item in found:
        message = message_of(dataset, number, item)
        room -= message.ByteSize()
        if room < 0 and messages:
            return messages, number
        messages.append(message)
    return messages, following


def _read_item(path: Path, number: int) -> Item:
    from engines.datasets import index

    return index.item(path, number)
