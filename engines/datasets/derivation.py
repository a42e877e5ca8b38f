"""Derives a dataset from the indexes of others; images and tensors are shared, never copied or changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engines.datasets import index
from engines.datasets.derivation_steps import STEPS, Step, Stream
from engines.datasets.items import Item
from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Reporter


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Write `workdir/out/index.parquet` from other indexes. This is the entry for a sandboxed child.

    Args:
        request: `sources` (paths of indexes in `workdir`, merged in this order) and `steps` (`DerivationStep`s).
        workdir: Directory with the sources.
        report: Receives the progress.

    Returns:
        The contents of the new index: `item_count`, `size_bytes`, `classes`, `attributes`, and the dataset's `type`.

    Raises:
        EngineFailure: INVALID_SPEC if a step names a key, class or value that no item has, if the sources are of
            different kinds, or if no item is left.
    """
    sources = [workdir / str(source) for source in request["sources"]]
    steps = [_parse(step) for step in request.get("steps") or ()]
    _require_one_kind(sources)
    total = sum(index.count(source) for source in sources)
    stream: Stream = partial(_merged, sources)
    for number, step in enumerate(steps, 1):
        stream = partial(_applied, step, stream, number)
    kinds = _Kinds()
    summary = index.write_index(workdir / "out" / index.INDEX, _counted(stream(), kinds, total, report))
    return {"type": kinds.type(), **summary.to_dict()}


class _Kinds:
    """The kinds of data and annotations in a stream of items."""

    def __init__(self) -> None:
        self.tensors = self.boxes = self.classes = False

    def add(self, item: Item) -> None:
        self.tensors |= _is_tensors(item)
        self.boxes |= bool(item.boxes)
        self.classes |= bool(item.classifications)

    def type(self) -> str:
        if self.tensors:
            return "TENSORS"
        if self.boxes:
            return "CLASSIFICATION_AND_DETECTION" if self.classes else "DETECTION"
        return "CLASSIFICATION" if self.classes else "UNANNOTATED"


def _counted(items: Iterator[Item], kinds: _Kinds, total: int, report: Reporter) -> Iterator[Item]:
    for done, item in enumerate(items, 1):
        kinds.add(item)
        if done % 1000 == 0:
            report.progress(0.99 * done / max(1, total), "Writing the items")
        yield item


def _merged(sources: Sequence[Path]) -> Iterator[Item]:
    """Yield the items of all sources; a path that an earlier source has is prefixed with the number of its source."""
    if len(sources) == 1:
        yield from index.iterate(sources[0])
        return
    owners: dict[str, int] = {}
    for place, source in enumerate(sources):
        for item in index.iterate(source):
            path = item.path
            # Rows of one tensor file share its path.
            while owners.setdefault(path, place) != place:
                path = f"{place}/{path}"
            yield item if path == item.path else replace(item, path=path)


def _applied(step: Step, items: Stream, number: int) -> Iterator[Item]:
    empty = True
    for item in step.apply(items):
        empty = False
        yield item
    if empty:
        raise _bad(f"No item is left after step {number} ({step.name}).")


def _require_one_kind(sources: Sequence[Path]) -> None:
    firsts = [items[0][1] for source in sources if (items := index.page(source, 0, 1)[0])]
    if not firsts:
        raise _bad("The datasets contain no items.")
    if len({_is_tensors(item) for item in firsts}) > 1:
        raise _bad("Datasets of images and datasets of tensors cannot be merged.")


def _is_tensors(item: Item) -> bool:
    return item.width == 0


def _parse(step: Mapping[str, Any]) -> Step:
    """Return a step from its JSON form, with names in snake case or camel case, as protobuf accepts both."""
    found = [(_snake(name), values) for name, values in step.items()]
    if len(found) != 1 or found[0][0] not in STEPS:
        raise _bad(f"A derivation step must be one of {', '.join(STEPS)}, not {', '.join(step) or 'empty'}.")
    name, values = found[0]
    return STEPS[name]({_snake(field): value for field, value in values.items()})


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", name)


def _bad(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
