"""Methods that use outputs as they are: scores of classes, vectors, raw tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .shared import Args, OutputMismatch, Outputs, Size, Taxonomies, output


def classification(args: Args, outputs: Outputs, taxonomies: Taxonomies, _: Size) -> list[dict[str, Any]]:
    """Return the scores of a single task."""
    return _classes(args, outputs, taxonomies[:1], [args.get("scores") or next(iter(outputs))])


def multi_classification(args: Args, outputs: Outputs, taxonomies: Taxonomies, _: Size) -> list[dict[str, Any]]:
    """Return the scores of every task."""
    named = args.get("scores", [])
    chosen = [named] if isinstance(named, str) else list(named)
    chosen = chosen or list(outputs)[: len(taxonomies) or None]
    return _classes(args, outputs, taxonomies, chosen)


def _classes(args: Args, outputs: Outputs, taxonomies: Taxonomies, chosen: list[str]) -> list[dict[str, Any]]:
    if taxonomies and len(chosen) != len(taxonomies):
        tasks = ", ".join(entry["task"] for entry in taxonomies)
        raise OutputMismatch(f"one output of scores per classification task is expected: {len(taxonomies)} for {tasks}")
    offset, columns = args.get("label_offset", 0), {}
    for index, name in enumerate(chosen):
        array = np.atleast_1d(np.asarray(output(outputs, name, "scores"), np.float64))
        entry = taxonomies[index] if taxonomies else {"task": name, "classes": []}
        rows = array.reshape(len(array), -1)[:, offset:] if array.ndim > 1 else array[:, None][:, :0]
        classes = len(entry["classes"])
        if not rows.shape[1] or (classes and rows.shape[1] != classes):
            before = f" after {offset} columns" if offset else ""
            wanted = f"(batch, {classes or 'classes'})"
            raise OutputMismatch(f"output '{name}' of the task '{entry['task']}' is expected to be {wanted}{before}")
        columns[entry["task"]] = rows
    if len({len(rows) for rows in columns.values()}) != 1:
        raise OutputMismatch("every output is expected to have one row per sample")
    count = len(next(iter(columns.values())))
    return [{"tasks": {task: rows[index] for task, rows in columns.items()}} for index in range(count)]


def embedding(args: Args, outputs: Outputs, _: Taxonomies, __: Size) -> list[dict[str, Any]]:
    """Return the vector of every sample."""
    named = [name for name in outputs if any(word in name.lower() for word in ("embed", "vector", "pool"))]
    name = args.get("vector") or next(iter([*named, *outputs]))
    array = np.asarray(output(outputs, name, "vectors"), np.float64)
    pooling = args.get("pooling", "none")
    if array.ndim < 2 or (pooling != "none" and array.ndim != 3):
        wanted = "(batch, dimension)" if pooling == "none" else "(batch, tokens, dimension)"
        raise OutputMismatch(f"output '{name}' is expected to be {wanted}")
    if pooling != "none":
        array = array.mean(1) if pooling == "mean" else array[:, 0]
    rows = array.reshape(len(array), -1)
    if args.get("normalize"):
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return [{"vector": row} for row in rows]


def raw(_: Args, outputs: Outputs, __: Taxonomies, ___: Size) -> list[dict[str, Any]]:
    """Return the outputs of every sample."""
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    count = next((len(array) for array in arrays.values() if array.ndim), 1)
    return [{"outputs": {k: v[i] if v.shape[:1] == (count,) else v for k, v in arrays.items()}} for i in range(count)]
