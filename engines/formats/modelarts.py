"""Input directories in ModelArts' form: which files are the model, and every rule that a directory breaks.

Source: the directories that ModelArts' guide for AI engineers (2021) prescribes for the input of a conversion, one form
for Ascend chips and one for ARM and GPU; for Ascend, Lathe also takes ONNX files and SavedModels, as its later
templates do. Files are told apart by their first bytes. Nothing of them runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.formats.caffe import Caffe
from engines.formats.frozen_graph import FrozenGraph
from engines.formats.onnx import Onnx
from engines.formats.protobuf_marks import is_frozen_graph, is_onnx, is_saved_model
from engines.formats.saved_model import SavedModel

MODEL, CALIBRATION, AIPP, PLUGIN = "model", "calibration_data", "insert_op_conf.cfg", "plugin"
_SAVED, _VARIABLES, _INDEX = "saved_model.pb", "variables", "variables.index"
_BESIDE_SAVED = frozenset({"assets", "fingerprint.pb", "keras_metadata.pb"})
"""What TensorFlow 2 writes into a SavedModel's folder beside what the rules name."""
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
_ARRAY = b"\x93NUMPY"
_MOST_SHOWN = 20


@dataclass(frozen=True)
class InputDirectory:
    """What a directory in ModelArts' form holds.

    Attributes:
        format: Name of the model's format.
        model: Its files and folders.
        aipp: The file of AIPP's operations for Ascend chips, if there is one.
        calibration: The folder of arrays for a conversion to 8 bits, if there is one.
        plugin: The folder of operators of the user's own, if there is one.
    """

    format: str
    model: tuple[Path, ...]
    aipp: Path | None = None
    calibration: Path | None = None
    plugin: Path | None = None


def read_input(folder: Path) -> InputDirectory:
    """Return what a directory in ModelArts' form holds.

    Raises:
        EngineFailure: INVALID_MODEL naming every rule that the directory breaks, each with its file.
    """
    if not folder.is_dir():
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{folder}' is no directory, and ModelArts' form is one.",
            suggested_fix="Give the directory itself, not the files in it.",
        )
    entries = _entries(folder)
    portable = bool({MODEL, CALIBRATION} & entries.keys())
    found = list(_portable(entries) if portable else _ascend(entries))
    if found:
        chips = "ARM and GPU" if portable else "Ascend"
        more = f"; and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"'{folder}' breaks the rules of ModelArts' input directories for {chips}: "
            f"{'; '.join(found[:_MOST_SHOWN])}{more}.",
            suggested_fix="Put it right, or push the model's own files without --layout.",
        )
    inside = _entries(entries[MODEL]) if portable else entries
    model = {name: path for name, path in inside.items() if name not in {AIPP, PLUGIN}}
    return InputDirectory(
        _format(model),
        tuple(model.values()),
        entries.get(AIPP),
        entries.get(CALIBRATION),
        entries.get(PLUGIN),
    )


def _entries(folder: Path) -> dict[str, Path]:
    """Return what is in a folder by name, hidden files left out."""
    return {path.name: path for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def _format(model: dict[str, Path]) -> str:
    if _SAVED in model:
        return SavedModel.name
    endings = {path.suffix.lower() for path in model.values()}
    return Caffe.name if ".prototxt" in endings else Onnx.name if ".onnx" in endings else FrozenGraph.name


def _portable(entries: dict[str, Path]) -> Iterator[str]:
    """Yield the rules for ARM and GPU that are broken: a folder of the model, and one of calibration data."""
    for name in sorted(entries.keys() - {MODEL, CALIBRATION}):
        yield f"'{name}' is beside '{MODEL}/' and '{CALIBRATION}/', and nothing else may be there"
    model = entries.get(MODEL)
    if model is None or not model.is_dir():
        yield f"there is no folder '{MODEL}/' with the model"
    else:
        inside = _entries(model)
        yield from _saved(inside, f"{MODEL}/") if _is_saved(inside) else _frozen(inside, f"{MODEL}/")
    data = entries.get(CALIBRATION)
    if data is not None:
        yield from _calibration(data)


def _ascend(entries: dict[str, Path]) -> Iterator[str]:
    """Yield the rules for Ascend that are broken: the files of one model, a file of AIPP, a folder of operators."""
    if AIPP in entries and not entries[AIPP].is_file():
        yield f"'{AIPP}' is a folder, and has to be the file of AIPP's operations"
    if PLUGIN in entries and not entries[PLUGIN].is_dir():
        yield f"'{PLUGIN}' is a file, and has to be the folder of operators of your own"
    model = {name: path for name, path in entries.items() if name not in {AIPP, PLUGIN}}
    for name in [name for name in model if name.lower().endswith(".cfg")]:
        yield f"'{model.pop(name).name}' has to be called '{AIPP}' if it is the file of AIPP's operations"
    endings = {path.suffix.lower() for path in model.values()}
    if endings & {".caffemodel", ".prototxt"}:
        yield from _caffe(model)
    elif _is_saved(model):
        yield from _saved(model, "")
    elif ".onnx" in endings:
        yield from _only(model, ".onnx", "", lambda path: "" if is_onnx(path) else "no ONNX model")
    else:
        yield from _frozen(model, "")


def _caffe(model: dict[str, Path]) -> Iterator[str]:
    for ending, words in ((".caffemodel", "weights"), (".prototxt", "net")):
        named = [name for name in model if name.lower().endswith(ending)]
        if len(named) != 1:
            yield f"there are {_count(named, f'*{ending}')}, and there has to be exactly one, the {words}"
    for name, path in model.items():
        if path.suffix.lower() not in {".caffemodel", ".prototxt"}:
            yield f"'{name}' belongs to no Caffe model"
        elif path.is_dir():
            yield f"'{name}' is a folder"


def _frozen(model: dict[str, Path], where: str) -> Iterator[str]:
    def wrong(path: Path) -> str:
        if is_saved_model(path):
            return f"the file of a SavedModel, which has to be called {_SAVED} and to have '{_VARIABLES}/' beside it"
        return "" if is_frozen_graph(path) else "no frozen graph of TensorFlow"

    yield from _only(model, ".pb", where, wrong)


def _only(model: dict[str, Path], ending: str, where: str, wrong: Callable[[Path], str]) -> Iterator[str]:
    """Yield what keeps a model from being one file of an ending, in which `wrong` finds nothing."""
    named = [name for name, path in model.items() if name.lower().endswith(ending) and path.is_file()]
    if len(named) != 1:
        yield f"there are {_count(named, f'{where}*{ending}')}, and there has to be exactly one, the model"
    for name, path in model.items():
        if name not in named:
            yield f"'{where}{name}' is no part of the model"
        elif words := wrong(path):
            yield f"'{where}{name}' is {words}"


def _is_saved(model: dict[str, Path]) -> bool:
    return _SAVED in model or _VARIABLES in model


def _saved(model: dict[str, Path], where: str) -> Iterator[str]:
    graph, variables = model.get(_SAVED), model.get(_VARIABLES)
    if graph is None:
        yield f"'{where}{_SAVED}' is missing"
    elif graph.is_dir() or not is_saved_model(graph):
        yield f"'{where}{_SAVED}' is no SavedModel of TensorFlow"
    if variables is None or not variables.is_dir():
        yield f"there is no folder '{where}{_VARIABLES}/'"
    else:
        yield from _variables(list(_entries(variables)), f"{where}{_VARIABLES}/")
    for name in sorted(model.keys() - {_SAVED, _VARIABLES} - _BESIDE_SAVED):
        yield f"'{where}{name}' belongs to no SavedModel"


def _variables(names: Sequence[str], where: str) -> Iterator[str]:
    shards = {name: match for name in names if (match := _SHARD.fullmatch(name))}
    if _INDEX not in names:
        yield f"'{where}{_INDEX}' is missing"
    if not shards:
        yield f"'{where}variables.data-00000-of-00001' is missing"
    counts = {match[2] for match in shards.values()}
    if len(counts) > 1:
        yield f"the files of '{where}' belong to savings of {' and '.join(sorted(counts))} parts"
    for count in counts if len(counts) == 1 else ():
        for number in range(int(count)):
            part = f"variables.data-{number:05}-of-{count}"
            if part not in shards:
                yield f"'{where}{part}' is missing"
    for name in names:
        if name != _INDEX and name not in shards:
            yield f"'{where}{name}' is no file of variables"


def _calibration(data: Path) -> Iterator[str]:
    if not data.is_dir():
        yield f"'{CALIBRATION}' is a file, and has to be a folder of arrays"
        return
    entries = _entries(data)
    if not entries:
        yield f"'{CALIBRATION}/' is empty: 8 bits need arrays (*.npy), 32 bits need no such folder"
    for name, path in entries.items():
        if not path.is_file() or not name.lower().endswith(".npy"):
            yield f"'{CALIBRATION}/{name}' is no file *.npy"
        elif not _is_array(path):
            yield f"'{CALIBRATION}/{name}' is no array that numpy.save wrote"


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ARRAY)) == _ARRAY


def _count(names: Sequence[str], files: str) -> str:
    return f"{len(names)} files {files} ({', '.join(names)})" if names else f"no files {files}"
