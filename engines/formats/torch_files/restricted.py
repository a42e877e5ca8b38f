"""Reads a pickle of a checkpoint without running anything of it: tensors become descriptions, code is refused by name.

A pickle is a program for a small stack machine; it does harm through the callables that it names. Here it can name
only what `torch.save` writes for tensors and plain containers, and the plain data that people save with them
(`inert.py`), and gets stand-ins for these, as `torch.load(weights_only=True)` does. The opcodes are checked first, so
that a false length or index costs no memory.
"""

from __future__ import annotations

import pickle
import pickletools
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import ITEM_BYTES, TensorInfo
from engines.formats.torch_files.inert import INERT

MAX_PICKLE_BYTES = 256 * 2**20
MAX_OPCODES = 20_000_000
_STORAGES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}


class MalformedPickleError(ValueError):
    """The bytes are not a pickle, or one that asks for the impossible."""


@dataclass(frozen=True, slots=True)
class Dtype:
    """An element type, or the storage class of one."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageInfo:
    """A block of elements that tensors look into: its key in the file, element type ("" = by the tensor), elements."""

    key: str
    dtype: str
    elements: int


class _StandIn:
    """Answers for a callable of torch. A pickle can call it and change nothing of it.

    A dataclass with slots would put a `__setstate__` of its own in place of this one in Python before 3.11.4.
    """

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __setstate__(self, _: Any) -> NoReturn:
        raise MalformedPickleError("it changes a function")

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def load(file: IO[bytes], storages: dict[str, StorageInfo], more: Mapping[tuple[str, str], Any] | None = None) -> Any:
    """Return the object of the pickle at the file's position, and leave the position behind it.

    Args:
        file: A seekable file.
        storages: Filled with the storages that the pickle names.
        more: Stand-ins for names beyond those of state dicts, by module and name.

    Raises:
        EngineFailure: UNSAFE_MODEL if the pickle names something that no state dict needs.
        MalformedPickleError: The bytes are not a whole pickle.
    """
    start = file.tell()
    _look_through(file)
    file.seek(start)
    try:
        return _Unpickler(file, storages, {} if more is None else more).load()
    except EngineFailure:
        raise
    except (MemoryError, RecursionError) as error:
        raise MalformedPickleError(f"it asks for too much memory ({type(error).__name__})") from error
    except Exception as error:
        raise MalformedPickleError(str(error)[:200] or type(error).__name__) from error


def _look_through(file: IO[bytes]) -> None:
    """Walk over the opcodes: the pickle is whole, of bearable size, and every memo index is within reason."""
    start = file.tell()
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(file)):
            if count > MAX_OPCODES or (position or 0) - start > MAX_PICKLE_BYTES:
                raise MalformedPickleError("its pickle is larger than that of any state dict")
            if "PUT" in opcode.name and isinstance(argument, int) and argument > MAX_OPCODES:
                raise MalformedPickleError(f"its pickle stores an object at index {argument}")
    except MalformedPickleError:
        raise
    except (MemoryError, OverflowError) as error:
        raise MalformedPickleError("its pickle asks for too much memory") from error
    except Exception as error:
        raise MalformedPickleError(str(error)[:200]) from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], storages: dict[str, StorageInfo], more: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages = storages
        self._more = more

    def find_class(self, module: str, name: str) -> Any:
        module = IMPORT_MAPPING.get(module, module)  # torch.save writes the names of Python 2
        if module == "torch" and name in _STORAGES:
            return Dtype(_STORAGES[name])
        if module == "torch" and name in ITEM_BYTES:
            return Dtype(name)
        key = (module, name)
        found = _ALLOWED.get(key) or INERT.get(key) or self._more.get(key)
        if found is None:
            _refuse(module, name)
        return found

    def persistent_load(self, identifier: Any) -> StorageInfo:
        try:
            kind, dtype, key, _, elements = identifier[:5]
            if kind != "storage" or not isinstance(elements, int):
                raise ValueError(kind)
        except (TypeError, ValueError):
            raise MalformedPickleError("it refers to something that is not a storage") from None
        name = dtype.name if isinstance(dtype, Dtype) else ""
        info = StorageInfo(str(key), name, elements)
        self._storages[info.key] = info
        return info


def _refuse(module: str, name: str) -> NoReturn:
    if (module, name) == ("torch._utils", "_rebuild_qtensor"):
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            "The weights are stored quantized by torch, which no other runtime reads.",
            evidence=f"{module}.{name}",
            suggested_fix="Save the model before it is quantized; Lathe quantizes it for the device.",
        )
    what = f"an object of the class '{name}'" if name[:1].isupper() else f"a call of '{name}'"
    raise EngineFailure(
        FailureReason.UNSAFE_MODEL,
        f"The checkpoint is a pickle that refers to '{module}.{name}', which no state dict needs; it was not loaded.",
        evidence=f"{module}.{name}",
        suggested_fix=f"The file holds {what}, and loading that runs code. Save the weights alone, where you trained "
        "the model: torch.save(model.state_dict(), path). From a file that you trust: found = torch.load(path, "
        "weights_only=False), then torch.save(found['state_dict'], path), or found.state_dict() if it holds the whole "
        "model.",
    )


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: str = "") -> TensorInfo:
    shape, strides = tuple(size), tuple(stride)
    whole = isinstance(storage, StorageInfo) and len(shape) == len(strides)
    if not whole or not all(type(number) is int and number >= 0 for number in (*shape, *strides, offset)):
        raise MalformedPickleError("it describes a tensor that has no proper storage, shape or strides")
    name = dtype or storage.dtype
    reach = offset + sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True)) + 1
    capacity = storage.elements if storage.dtype else storage.elements // ITEM_BYTES[name]
    if 0 not in shape and reach > capacity:
        raise MalformedPickleError(f"a tensor of shape {shape} reaches outside its storage of {capacity} elements")
    return TensorInfo(name, shape)


def _tensor_v3(*arguments: Any) -> TensorInfo:
    """Stand in for `_rebuild_tensor_v3`, whose seventh argument is the element type."""
    return _tensor(*arguments[:4], dtype=arguments[6].name)


def _of_type(function: _StandIn, _type: Any, arguments: tuple[Any, ...], _state: Any) -> Any:
    return function(*arguments)


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): _StandIn(dict),
    ("builtins", "set"): set,
    ("builtins", "complex"): complex,
    ("_codecs", "encode"): _StandIn(_encode),
    ("torch", "Size"): _StandIn(tuple),
    ("torch", "device"): _StandIn(lambda *parts: ":".join(map(str, parts))),
    ("torch", "Tensor"): "torch.Tensor",
    ("torch.nn.parameter", "Parameter"): "torch.nn.Parameter",
    ("torch.storage", "UntypedStorage"): "torch.UntypedStorage",
    ("torch", "UntypedStorage"): "torch.UntypedStorage",
    ("torch._utils", "_rebuild_tensor"): _StandIn(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _StandIn(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _StandIn(_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _StandIn(lambda tensor, *_: tensor),
    ("torch._utils", "_rebuild_parameter_with_state"): _StandIn(lambda tensor, *_: tensor),
    ("torch._tensor", "_rebuild_from_type_v2"): _StandIn(_of_type),
}
