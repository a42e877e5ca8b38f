"""A stand-in for pyACL, for tests alone: it has no chip, and adds one to what it is given.

Its functions have the names, arguments and results of the vendor's wrapper of `acl_mdl.h` and `acl_rt.h`. Addresses are
keys of `_memory`. A model is a JSON file: inputs with name, type and largest shape; each output is its input and one.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SOC = "Ascend310P3"
DTYPES = {"float32": 0, "float16": 1, "uint8": 4, "int64": 9, "bfloat16": 27}
CALLS: list[str] = []
"""Names of the calls that release something, and of those that choose a profile."""
_numbers = itertools.count(1000)
_memory: dict[int, bytearray] = {}
_buffers: dict[int, tuple[int, int]] = {}
_sets: dict[int, list[int]] = {}
_models: dict[int, dict[str, Any]] = {}
_descriptions: dict[int, int] = {}


def _new(table: dict[int, Any], value: Any) -> int:
    number = next(_numbers)
    table[number] = value
    return number


def left() -> int:
    """Return how many things are not released."""
    return sum(len(table) for table in (_memory, _buffers, _sets, _models, _descriptions))


def _model(desc: int) -> dict[str, Any]:
    return _models[_descriptions[desc]]


def _load(path: str) -> tuple[int, int]:
    try:
        stated = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return 0, 500002
    return _new(_models, {**stated, "chosen": None}), 0


def _inputs(desc: int) -> list[Any]:
    model = _model(desc)
    gears = [["ascend_mbatch_shape_data", "int64", [8]]] if model.get("dynamic") else []
    return [*model["inputs"], *gears]


def _size(entry: Any) -> int:
    width = 4 if entry[1] == "bfloat16" else np.dtype(entry[1]).itemsize
    return math.prod(map(int, entry[2])) * int(width)


def _index(desc: int, name: str) -> tuple[int, int]:
    names = [entry[0] for entry in _inputs(desc)]
    return (names.index(name), 0) if name in names else (0, 100003)


def _shape(model: dict[str, Any], index: int) -> list[int]:
    shape = list(model["inputs"][index][2])
    chosen = model["chosen"]
    if chosen is None:
        return shape
    kind, values = chosen
    if kind == "batch":
        return [values[0], *shape[1:]]
    if kind == "image":
        return [*shape[:2], *values]
    ranks = [len(entry[2]) for entry in model["inputs"]]
    start = sum(ranks[:index])
    return list(values[start : start + ranks[index]])


def _execute(model_id: int, inputs: int, outputs: int) -> int:
    model = _models[model_id]
    for index, (name, dtype, _) in enumerate(model["inputs"]):
        assert name
        shape = _shape(model, index)
        source, target = (_memory[_buffers[_sets[each][index]][0]] for each in (inputs, outputs))
        count = math.prod(shape)
        values = np.frombuffer(bytes(source), dtype)[:count] + np.ones(1, dtype)
        target[: values.nbytes] = values.tobytes()
    return 0


def _choose(model_id: int, kind: str, values: list[int]) -> int:
    CALLS.append(f"{kind} {','.join(map(str, values))}")
    _models[model_id]["chosen"] = (kind, values)
    return 0


def _memcpy(to: int, most: int, source: int, count: int, direction: int) -> int:
    if count > most or direction not in {1, 2}:
        return 100000
    _memory[to][:count] = _memory[source][:count]
    return 0


def _malloc(size: int, _policy: int = 0) -> tuple[int, int]:
    return (_new(_memory, bytearray(size)), 0) if size < 1 << 40 else (0, 207001)


def _free(address: int) -> int:
    del _memory[address]
    return 0


def _released(name: str, table: dict[int, Any], number: int) -> int:
    CALLS.append(name)
    del table[number]
    return 0


def _told(name: str) -> int:
    CALLS.append(name)
    return 0


def _add(dataset: int, buffer: int) -> tuple[int, int]:
    _sets[dataset].append(buffer)
    return dataset, 0


def _describe(desc: int, model: int) -> int:
    _descriptions[desc] = model
    return 0


def _pointer(content: bytes) -> int:
    # The vendor's returns the address of the bytes themselves; here they are kept until the copy.
    number = next(_numbers)
    _kept.clear()
    _kept[number] = bytearray(content)
    _memory[number] = _kept[number]
    return number


_kept: dict[int, bytearray] = {}


def _copied(to: int, most: int, source: int, count: int, direction: int) -> int:
    code = _memcpy(to, most, source, count, direction)
    if source in _kept:
        del _memory[source], _kept[source]
    return code


def init(_config: str = "") -> int:
    """Initialize; a second time is an error that callers ignore."""
    code = 100002 if "init" in CALLS else 0
    CALLS.append("init")
    return code


def get_soc_name() -> str:
    """Return the chip."""
    return SOC


def create_data_buffer(address: int, size: int) -> int:
    """Return a buffer."""
    return _new(_buffers, (address, size))


def destroy_data_buffer(buffer: int) -> int:
    """Release a buffer."""
    return _released("destroy_data_buffer", _buffers, buffer)


rt = SimpleNamespace(
    set_device=lambda device: 0,
    reset_device=lambda device: _told("reset_device"),
    create_context=lambda device: (7, 0),
    destroy_context=lambda context: _told("destroy_context"),
    set_context=lambda context: 0 if context == 7 else 107002,
    malloc=_malloc,
    free=_free,
    malloc_host=_malloc,
    free_host=_free,
    memcpy=_copied,
)
mdl = SimpleNamespace(
    load_from_file=_load,
    unload=lambda model: _released("unload", _models, model),
    create_desc=lambda: _new(_descriptions, 0),
    get_desc=_describe,
    destroy_desc=lambda desc: _released("destroy_desc", _descriptions, desc),
    get_num_inputs=lambda desc: len(_inputs(desc)),
    get_num_outputs=lambda desc: len(_model(desc)["inputs"]),
    get_input_size_by_index=lambda desc, index: _size(_inputs(desc)[index]),
    get_output_size_by_index=lambda desc, index: _size(_model(desc)["inputs"][index]),
    get_input_index_by_name=_index,
    get_input_data_type=lambda desc, index: DTYPES[_inputs(desc)[index][1]],
    get_output_data_type=lambda desc, index: DTYPES[_model(desc)["inputs"][index][1]],
    get_cur_output_dims=lambda desc, index: (
        {"name": "y", "dimCount": len(_shape(_model(desc), index)), "dims": _shape(_model(desc), index)},
        0,
    ),
    create_dataset=lambda: _new(_sets, []),
    destroy_dataset=lambda dataset: _released("destroy_dataset", _sets, dataset),
    add_dataset_buffer=_add,
    execute=_execute,
    set_dynamic_batch_size=lambda model, dataset, index, size: _choose(model, "batch", [size]),
    set_dynamic_hw_size=lambda model, dataset, index, height, width: _choose(model, "image", [height, width]),
    set_input_dynamic_dims=lambda model, dataset, index, dims: (
        _choose(model, "dims", dims["dims"]) if len(dims["dims"]) == dims["dimCount"] else 100000
    ),
)
util = SimpleNamespace(bytes_to_ptr=_pointer, ptr_to_bytes=lambda address, size: bytes(_memory[address][:size]))
