"""Looks at the files of a SavedModel: what can be refused without TensorFlow is refused here."""

from __future__ import annotations

import re
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.formats.detection import check_format
from engines.formats.tensorflow.graph import Graph, SavedModel, check_safe, read_saved_model

SERVING = "serving_default"
"""The signature that is meant where none is named."""
_SHARD = re.compile(r"-of-([0-9]{5})$")


def model_file(folder: Path) -> Path:
    """Return the file of a SavedModel that holds its graph.

    Raises:
        EngineFailure: INVALID_MODEL where the folder has none, with what it looks like.
    """
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if (folder / name).is_file():
            return folder / name
    check_format(folder, "SAVED_MODEL")
    raise _invalid("The SavedModel has no saved_model.pb.")


def inspect_saved_model(folder: Path) -> SavedModel:
    """Return what a SavedModel says of itself, after everything that can be refused without running it was.

    Raises:
        EngineFailure: INVALID_MODEL for a damaged or another file, or variables that are missing or empty;
            UNSAFE_MODEL for Python in the graph.
    """
    path = model_file(folder)
    model = read_saved_model(path)
    check_safe(model.graph, path)
    _check_variables(folder, model.graph)
    return model


def _check_variables(folder: Path, graph: Graph) -> None:
    """Refuse a SavedModel whose graph has variables, and whose files do not.

    Raises:
        EngineFailure: INVALID_MODEL.
    """
    files = sorted((folder / "variables").glob("variables.*"))
    empty = next((file for file in files if not file.stat().st_size), None)
    if empty is not None:
        raise _invalid(f"'variables/{empty.name}' of the SavedModel is empty; its weights did not arrive.")
    variables = graph.variables
    parts = {file.name.partition(".")[2].partition("-")[0] for file in files}
    if variables and not parts >= {"index", "data"}:
        raise _invalid(
            f"The SavedModel has {len(variables)} variables, such as '{variables[0]}', and their values are missing: "
            "variables/variables.index and variables/variables.data-… belong beside saved_model.pb."
        )
    counts = [found[1] for file in files if (found := _SHARD.search(file.name))]
    total, shards = max(map(int, counts), default=0), len(counts)
    if shards < total:
        raise _invalid(f"The values of the SavedModel's variables lie in {total} files, of which {shards} are there.")


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL, message, suggested_fix="Upload the whole folder that tf.saved_model.save wrote."
    )
