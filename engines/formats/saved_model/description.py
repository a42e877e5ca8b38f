"""Describes a SavedModel by its files, and refuses whatever can be refused without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.detection import check_format
from engines.formats.tensorflow.description import describe_graph
from engines.formats.tensorflow.graph import Graph, SavedModelContent, check_safe, parse_saved_model

SERVING = "serving_default"
"""The signature that is read if none is named."""
_SHARD = re.compile(r"-of-([0-9]{5})$")


def model_file(folder: Path) -> Path:
    """Return the file of a SavedModel that holds its graph.

    Raises:
        EngineFailure: INVALID_MODEL if the folder has none, with what it looks like.
    """
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if (folder / name).is_file():
            return folder / name
    check_format(folder, "SAVED_MODEL")
    raise _invalid("The SavedModel has no saved_model.pb.")


def inspect_saved_model(folder: Path) -> SavedModelContent:
    """Return the contents of a SavedModel, and refuse whatever can be refused without running it.

    Raises:
        EngineFailure: INVALID_MODEL for a damaged or another file, or variables that are missing or empty;
            UNSAFE_MODEL for Python in the graph.
    """
    path = model_file(folder)
    model = parse_saved_model(path)
    check_safe(model.graph, path)
    _check_variables(folder, model.graph)
    return model


def choose_signature(model: SavedModelContent, named: str = "", inputs: Sequence[str] = ()) -> str:
    """Return the signature to read: the one that is named, `serving_default`, the only one, or the one of the inputs.

    Raises:
        EngineFailure: INVALID_SPEC listing the signatures if none of these rules applies, INVALID_MODEL if there are
            none.
    """
    found = model.signatures
    if not found:
        raise _invalid(
            "The SavedModel has no signature, which would name its inputs and outputs.",
            "Save it with tf.saved_model.save(model, folder, signatures=...), or model.export(folder) of Keras.",
        )
    if named in found:
        return named
    fitting = [key for key, (takes, _) in found.items() if inputs and {spec.name for spec in takes} == set(inputs)]
    if not named and (SERVING in fitting or (SERVING in found and not fitting)):
        return SERVING
    if not named and len(fitting or found) == 1:
        return next(iter(fitting or found))
    listed = "; ".join(
        f"'{key}' takes {', '.join(spec.name for spec in takes) or 'nothing'}" for key, (takes, _) in found.items()
    )
    wrong = f"has no signature '{named}'" if named else f"has {len(found)} signatures and none is '{SERVING}'"
    raise EngineFailure(
        FailureReason.INVALID_SPEC,
        f"The SavedModel {wrong}: {listed}.",
        suggested_fix="Set the component's `state_dict_key` to one of them, or declare its inputs.",
    )


def describe_saved_model(folder: Path) -> dict[str, Any]:
    """Return the `GraphDescription` of a SavedModel; its signature is `serving_default`, else the first.

    Raises:
        EngineFailure: As `inspect_saved_model`.
    """
    model = inspect_saved_model(folder)
    described = describe_graph(model.graph, model_file(folder).name)
    metadata = {"format": "SavedModel", "tensorflow": model.version, "signatures": ", ".join(model.signatures)}
    key = SERVING if SERVING in model.signatures else next(iter(model.signatures), "")
    if key:
        inputs, outputs = model.signatures[key]
        described["signature"] = {
            "inputs": [spec.to_dict() for spec in inputs],
            "outputs": [spec.to_dict() for spec in outputs],
        }
    return {
        **described,
        "component": "model",
        "metadata": {name: text[:1000] for name, text in metadata.items() if text},
    }


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
            "variables/variables.index and variables/variables.data-… belong next to saved_model.pb."
        )
    counts = [found[1] for file in files if (found := _SHARD.search(file.name))]
    total, shards = max(map(int, counts), default=0), len(counts)
    if shards < total:
        raise _invalid(f"The values of the SavedModel's variables are in {total} files, of which {shards} are there.")


def _invalid(message: str, fix: str = "Upload the whole folder that tf.saved_model.save wrote.") -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_MODEL, message, suggested_fix=fix)
