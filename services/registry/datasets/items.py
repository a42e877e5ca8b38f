"""What a dataset holds, page by page, and one item to look at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from lathe.registry.v1.dataset_service_pb2 import Dataset, DatasetItem, ListDatasetItemsRequest

from engines.datasets.items import Item
from services.common.errors import not_found
from services.common.paging import Position, decode_token, encode_token, page_size
from services.registry.datasets.catalog import Catalog
from services.registry.datasets.index_files import IndexFiles

# A page has to stay under gRPC's 4 MiB.
_MAX_PAGE_BYTES = 3_000_000


class Items:
    """Reads items from the indexes of datasets."""

    def __init__(self, catalog: Catalog, files: IndexFiles) -> None:
        self._catalog = catalog
        self._files = files

    async def page(self, request: ListDatasetItemsRequest) -> tuple[list[DatasetItem], str]:
        """Return one page of items, and the token of the next.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_READY; INVALID_ARGUMENT for a bad page size,
                or a token of another dataset or filter.
        """
        size = page_size(request.page_size)
        dataset = await self._catalog.ready(request.parent)
        values = dict(request.values)
        query = [dataset.uid, dataset.index.sha256, values]
        start = 0
        if request.page_token:
            (start,) = decode_token(request.page_token, query, [int]).values  # type: ignore[assignment]
        found, following = await self._files.read(dataset.index, _read_page, start, size, values)
        messages = [message_of(dataset.name, number, item) for number, item in found]
        kept = _fitting(messages)
        if kept < len(found):
            following = found[kept][0]
        token = "" if following is None else encode_token(Position((following,)), query)
        return messages[:kept], token

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


def message_of(dataset: str, number: int, item: Item) -> DatasetItem:
    """Return an item as the API has it."""
    values = item.to_dict()
    message = ParseDict(values, DatasetItem(), ignore_unknown_fields=True)  # the area of a box stays inside
    message.name = f"{dataset}/items/{number}"
    return message


def _read_page(path: Path, *query: Any) -> tuple[list[tuple[int, Item]], int | None]:
    # In the thread, when first asked for: it loads Arrow.
    from engines.datasets import index

    return index.page(path, *query)


def _read_item(path: Path, number: int) -> Item:
    from engines.datasets import index

    return index.item(path, number)


def _fitting(messages: Sequence[DatasetItem]) -> int:
    """Return how many of the first items fit in an answer; one at least, where there is one."""
    sizes = accumulate(message.ByteSize() + 8 for message in messages)
    fit = sum(1 for size in sizes if size <= _MAX_PAGE_BYTES)
    return max(fit, min(len(messages), 1))
