"""Says what TorchScript archives and torch.export programs contain: their zip entries, without torch."""

from __future__ import annotations

import json
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import describe_tensors, most_frequent
from engines.formats.pytorch import restricted
from engines.formats.pytorch.restricted import MalformedPickleError, StorageInfo, TensorInfo
from engines.spec.sniff import sniff
from engines.tensors.shapes import OPEN_EXTENT

_MAX_CODE_BYTES = 64 << 20
_MAX_JSON_BYTES = 512 << 20
_MAX_DEPTH = 100
_CALL = re.compile(r"\b(?:torch|ops\.\w+)\.(\w+)\(")
_SYMBOL = re.compile(r"Symbol\('(\w+)'.*\)|(\w+)")
_EXPORTED_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
}
"""Element types by the numbers of torch/_export/serde/schema.py."""
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError),
    *(AttributeError, LookupError, TypeError, ValueError, OverflowError),
)
"""What reading entries that are damaged, encrypted or of another form raises."""


class _ScriptObject:
    """Stands for an object of a class of the archive: keeps its state, and has no code."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Stubs(Mapping[tuple[str, str], Any]):
    """What stands for the names of a TorchScript archive's pickle: its own classes, and makers of typed lists."""

    def __getitem__(self, key: tuple[str, str]) -> Any:
        module, name = key
        if module == "__torch__" or module.startswith("__torch__."):
            return _ScriptObject
        if module == "torch.jit._pickle" and (name.startswith("build_") or name == "restore_type_tag"):
            return lambda value, *_: value
        raise KeyError(key)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(())

    def __len__(self) -> int:
        return 0


def describe_torchscript(path: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of a TorchScript archive: its tensors, and the calls that stand in its code.

    Raises:
        EngineFailure: INVALID_MODEL for another or a damaged file; UNSAFE_MODEL for a pickle that refers to code.
    """
    with _opened(path, "a TorchScript archive", "TorchScript archive") as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        storages: dict[str, StorageInfo] = {}
        with archive.open(entries["data.pkl"]) as file:
            module = restricted.load(file, storages, _Stubs())
        for key, storage in storages.items():
            wanted = storage.elements * restricted.ITEM_BYTES.get(storage.dtype, 1)
            record = entries.get(f"data/{key}")
            if record is None or record.file_size < wanted:
                raise MalformedPickleError(f"the weights of the record data/{key} are missing or cut")
        code = [entry for name, entry in entries.items() if name.startswith("code/") and name.endswith(".py")]
        operators = Counter(_CALL.findall(_source(archive, code)))
        version = archive.read(entries["version"]).decode(errors="replace").strip() if "version" in entries else ""
    return {
        **describe_tensors(dict(_tensors(module, set())), shown_path),
        "operators": most_frequent(operators),
        "metadata": {"format": "TorchScript", "version": version, "code_files": str(len(code))},
    }


def describe_exported_program(path: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of a torch.export program.

    Raises:
        EngineFailure: INVALID_MODEL for another or a damaged file.
    """
    with _opened(path, "a torch.export program", "torch.export program") as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        graphs = [name for inner, name in names.items() if re.fullmatch(r"models/[^/]+\.json", inner)]
        weights = [name for inner, name in names.items() if re.fullmatch(r"data/weights/.*_config\.json", inner)]
        legacy = names.get("serialized_exported_program.json")
        if not (graphs or legacy):
            raise MalformedPickleError("it holds no graph")
        program = _json(archive, graphs[0] if graphs else str(legacy))
        tensors = {
            str(name): _tensor(entry["tensor_meta"])
            for config in weights
            for name, entry in _json(archive, config)["config"].items()
        }
        return _describe_program(program, tensors, shown_path)


def _describe_program(program: Mapping[str, Any], tensors: dict[str, TensorInfo], shown_path: str) -> dict[str, Any]:
    nodes = program["graph_module"]["graph"]["nodes"]
    targets = Counter(str(node["target"]).removeprefix("torch.ops.").removesuffix(".default") for node in nodes)
    return {
        **describe_tensors(tensors, shown_path),
        "signature": _signature(program),
        "operators": most_frequent(targets),
        "metadata": {"format": "torch.export", "torch": str(program.get("torch_version", ""))},
    }


def _signature(program: Mapping[str, Any]) -> dict[str, Any]:
    module = program["graph_module"]
    ranges = program.get("range_constraints", {})
    values = module["graph"]["tensor_values"]
    kinds = {"inputs": ("user_input", "input_specs"), "outputs": ("user_output", "output_specs")}
    signature: dict[str, list[dict[str, Any]]] = {}
    for part, (kind, specs) in kinds.items():
        names = [_name(spec[kind]["arg"]) for spec in module["signature"][specs] if kind in spec]
        signature[part] = [_spec(name, values[name], ranges) for name in names if name in values]
    return signature


def _name(argument: Mapping[str, Any]) -> str:
    return str(argument.get("as_tensor", {}).get("name", ""))


def _spec(name: str, meta: Mapping[str, Any], ranges: Mapping[str, Any]) -> dict[str, Any]:
    profile = [_extents(size, ranges) for size in meta["sizes"]]
    low, tuned, high = (list(part) for part in zip(*profile, strict=True)) if profile else ([], [], [])
    shape = {"min": low, "opt": tuned, "max": high}
    return {"name": name, "dtype": _EXPORTED_DTYPES.get(meta["dtype"], "float32"), "shape": shape}


def _extents(size: Mapping[str, Any], ranges: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return least, tuned and largest extent of an axis; an expression of several symbols has no known bounds."""
    if "as_int" in size:
        fixed = max(1, int(size["as_int"]))
        return fixed, fixed, fixed
    expression = str(size["as_expr"]["expr_str"])
    found = _SYMBOL.fullmatch(expression)
    between = ranges.get(found[1] or found[2], {}) if found else {}
    low = max(1, int(between.get("min_val") or 1))
    high = min(OPEN_EXTENT, int(between.get("max_val") or OPEN_EXTENT))
    hint = (size["as_expr"].get("hint") or {}).get("as_int") or low
    return low, min(max(low, int(hint)), high), high


def _tensor(meta: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(
        _EXPORTED_DTYPES.get(meta["dtype"], "uint8"), tuple(int(size["as_int"]) for size in meta["sizes"])
    )


def _tensors(value: Any, seen: set[int], name: str = "", depth: int = 0) -> Iterator[tuple[str, TensorInfo]]:
    """Yield the tensors of a module by the names that its state dict gives them.

    A container that is shared is walked where it is met first: nested sharing makes more ways than anyone can walk.
    """
    if depth > _MAX_DEPTH:
        raise MalformedPickleError("its modules are nested too deeply")
    if isinstance(value, TensorInfo):
        yield name, value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for key, entry in _entries(value):
        yield from _tensors(entry, seen, f"{name}.{key}" if name and key else name or key, depth + 1)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container holds, by name; the state of an object without one."""
    if isinstance(value, _ScriptObject):
        yield "", value.state
    elif isinstance(value, dict):
        yield from ((str(key), entry) for key, entry in value.items() if isinstance(key, str | int))
    elif isinstance(value, list | tuple):
        yield from ((str(index), entry) for index, entry in enumerate(value))


def _source(archive: zipfile.ZipFile, code: list[zipfile.ZipInfo]) -> str:
    if sum(entry.file_size for entry in code) > _MAX_CODE_BYTES:
        raise MalformedPickleError("its code is larger than that of any network")
    return "\n".join(archive.read(entry).decode(errors="replace") for entry in code)


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > _MAX_JSON_BYTES:
        raise MalformedPickleError(f"its entry {name} is larger than that of any network")
    return json.loads(archive.read(name))


@contextmanager
def _opened(path: Path, words: str, what: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive of a kind; what goes wrong with it inside the block says that the file is none."""
    looks = sniff(path)
    if looks != words:
        raise _invalid(path, what, f"it looks like {looks}")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise _invalid(path, what, f"it is damaged ({str(error)[:200]})") from error


def _invalid(path: Path, what: str, why: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{path.name}' is no {what} that can be used: {why}.",
        suggested_fix="Upload the file as torch wrote it, whole.",
    )
