"""Reads the contents of a PyTorch checkpoint without torch, and without running anything of it.

Both formats of `torch.save` are read: the zip archive of torch 1.6 and later, and the sequence of pickles before it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import ITEM_BYTES, TensorInfo, describe_tensors
from engines.formats.torch_files import restricted
from engines.formats.torch_files.restricted import MalformedPickleError, StorageInfo
from engines.spec.sniff import sniff

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

StateDict = dict[str, TensorInfo]


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        container: `zip` or `legacy`.
        keys: Top-level keys, in the order of the file.
        state_dicts: Each state dict by its key; under "" if the whole file is one.
    """

    container: str
    keys: tuple[str, ...]
    state_dicts: dict[str, StateDict]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the contents of a checkpoint.

    Raises:
        EngineFailure: INVALID_MODEL for a truncated file or one of another kind, with what it looks like; UNSAFE_MODEL
            for a pickle that refers to code.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                return _checkpoint("zip", _read_zip(path))
            file.seek(0)
            return _checkpoint("legacy", _read_legacy(file, path))
    except MalformedPickleError as error:
        raise _invalid(path, f"it is damaged or truncated ({error})") from error


def describe_pth(path: Path, shown_path: str) -> list[dict[str, Any]]:
    """Return a `GraphDescription` for each state dict of the checkpoint."""
    checkpoint = read_checkpoint(path)
    if not checkpoint.state_dicts:
        keys = ", ".join(checkpoint.keys[:20]) or "none"
        raise _invalid(path, f"it holds no state dict; its top-level keys: {keys}")
    return [_describe(checkpoint, key, tensors, shown_path) for key, tensors in checkpoint.state_dicts.items()]


def _describe(checkpoint: Checkpoint, key: str, tensors: StateDict, shown_path: str) -> dict[str, Any]:
    metadata = {"format": f"torch.save ({checkpoint.container})", "tensors": str(len(tensors))}
    if key:
        metadata["state_dict_key"] = key
    return {
        **describe_tensors(tensors, shown_path),
        "checkpoint_keys": list(checkpoint.keys) if key else [],
        "metadata": metadata,
    }


def _read_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            looks = sniff(path)
            if looks != "a file of torch.save":
                raise _invalid(path, f"it looks like {looks}")
            if members["data.pkl"].file_size > restricted.MAX_PICKLE_BYTES:
                raise _invalid(path, "its list of tensors is larger than that of any state dict")
            storages: dict[str, StorageInfo] = {}
            with archive.open(members["data.pkl"]) as file:
                value = restricted.load(file, storages)
            _check_records(path, storages, {name: info.file_size for name, info in members.items()})
            return value
    except MalformedPickleError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise _invalid(path, f"it looks like {sniff(path)} ({error})") from error


def _check_records(path: Path, storages: Mapping[str, StorageInfo], sizes: Mapping[str, int]) -> None:
    for storage in storages.values():
        wanted = storage.elements * ITEM_BYTES.get(storage.dtype, 1)
        found = sizes.get(f"data/{storage.key}")
        if found is None or found < wanted:
            has = "is missing" if found is None else f"has {found} bytes"
            raise _invalid(path, f"it is damaged: the record data/{storage.key} of {wanted} bytes {has}")


def _read_legacy(file: IO[bytes], path: Path) -> Any:
    storages: dict[str, StorageInfo] = {}
    try:
        first = restricted.load(file, storages)
    except MalformedPickleError as error:
        looks = sniff(path)
        cut = "a truncated Python pickle" if looks == "a Python pickle" else looks
        raise _invalid(path, f"it looks like {cut}") from error
    if first != _LEGACY_MAGIC:
        raise _invalid(path, "it is a plain Python pickle that torch.save did not write")
    if restricted.load(file, storages) != _LEGACY_PROTOCOL:
        raise _invalid(path, "it was written by a version of torch.save that nobody uses")
    restricted.load(file, storages)  # byte order and sizes of C types of the machine that wrote it
    value = restricted.load(file, storages)
    restricted.load(file, {})  # keys of the storages, whose elements follow, each behind its 8-byte count
    wanted = sum(8 + storage.elements * ITEM_BYTES.get(storage.dtype, 1) for storage in storages.values())
    found = path.stat().st_size - file.tell()
    if found < wanted:
        raise _invalid(path, f"it is truncated: {found} bytes of weights are there, {wanted} belong there")
    return value


def _checkpoint(container: str, value: Any) -> Checkpoint:
    whole = _as_state_dict(value)
    if whole is not None:
        return Checkpoint(container, tuple(whole), {"": whole})
    if not isinstance(value, Mapping):
        return Checkpoint(container, (), {})
    found = {str(key): tensors for key, entry in value.items() if (tensors := _as_state_dict(entry)) is not None}
    return Checkpoint(container, tuple(map(str, value)), found)


def _as_state_dict(value: Any) -> StateDict | None:
    """Return the tensors of a state dict: names to tensors, and the extra state that modules may keep."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return None
    tensors = {key: entry for key, entry in value.items() if isinstance(entry, TensorInfo)}
    others = [key for key in value if key not in tensors and not key.endswith("_extra_state")]
    return tensors if tensors and not others else None


def _invalid(path: Path, why: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{path.name}' cannot be read as a PyTorch checkpoint: {why}.",
        suggested_fix="Upload the file that torch.save(model.state_dict(), path) wrote, whole.",
    )
