"""Describes TorchScript archives by their zip entries, without torch."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engines.formats.described_tensors import ITEM_BYTES, TensorInfo, describe_tensors, most_frequent
from engines.formats.torch_files import restricted
from engines.formats.torch_files.archives import opened
from engines.formats.torch_files.restricted import MalformedPickleError, StorageInfo

_MAX_CODE_BYTES = 64 << 20
_MAX_DEPTH = 100
_CALL = re.compile(r"\b(?:torch|ops\.\w+)\.(\w+)\(")


class _ScriptObject:
    """Stands for an object of a class of the archive: keeps its state, and has no code."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Stubs(Mapping[tuple[str, str], Any]):
    """Stand-ins for the names in a TorchScript archive's pickle: its own classes, and makers of typed lists."""

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
    """Return the `GraphDescription` of a TorchScript archive: its tensors, and the calls in its code.

    Raises:
        EngineFailure: INVALID_MODEL for another or a damaged file; UNSAFE_MODEL for a pickle that refers to code.
    """
    with opened(path, "a TorchScript archive") as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        storages: dict[str, StorageInfo] = {}
        with archive.open(entries["data.pkl"]) as file:
            module = restricted.load(file, storages, _Stubs())
        for key, storage in storages.items():
            wanted = storage.elements * ITEM_BYTES.get(storage.dtype, 1)
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


def _tensors(value: Any, seen: set[int], name: str = "", depth: int = 0) -> Iterator[tuple[str, TensorInfo]]:
    """Yield the tensors of a module by the names that its state dict gives them.

    A shared container is walked once: nested sharing makes exponentially many paths.
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
