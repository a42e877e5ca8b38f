"""`filter` of a list of items: a condition on the columns of an index instead of a table."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from engines.datasets.items import LABEL
from engines.datasets.masks import BOX_LABELS, Hits, compared, in_lists, in_map, like
from services.resources.filters.fields import AllTests, Kind, NotTest, Test, Tests


def meant(tests: Tests, batch: Any) -> Hits:
    """Return which rows of a batch of an index pass a filter of the list of items."""
    if isinstance(tests, Test):
        return _passing(tests, batch)
    if isinstance(tests, NotTest):
        return ~meant(tests.test, batch)
    together = np.logical_and if isinstance(tests, AllTests) else np.logical_or
    return reduce(together, (meant(each, batch) for each in tests.tests))


def looked_at(tests: Tests) -> list[str]:
    """Return the columns of an index that a filter looks at."""
    if isinstance(tests, Test):
        return [BOX_LABELS if tests.name == LABEL else tests.name]
    if isinstance(tests, NotTest):
        return looked_at(tests.test)
    return sorted({column for each in tests.tests for column in looked_at(each)})


def _passing(test: Test, batch: Any) -> Hits:
    if test.field.kind is Kind.MAP:
        column = batch.column(test.name)
        return in_map(column, test.key, None if test.how == "set" else _holding(test, column.items))
    if test.field.kind is Kind.TEXTS:
        boxes = batch.column("boxes")
        return in_lists(boxes, _holding(test, boxes.values.field(LABEL)))
    return _holding(test, batch.column(test.name))


def _holding(test: Test, column: Any) -> Hits:
    if test.how == "set":
        return ~compared(column, "=", 0 if test.field.kind is Kind.NUMBER else "")
    return like(column, test.value) if test.how == "like" else compared(column, test.how, test.value)
