"""Opens an offline model on an Ascend chip by pyACL. Packages carry this file: see `engines/runtimes/opened.py`.

pyACL's module `acl` comes with CANN. Its functions are those of `acl_mdl.h` and `acl_rt.h` by other names; addresses
are numbers, and most results are pairs with an error code.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..opened import CallTimes, OpenedForm, UnfitMachineError

PACKAGES: tuple[str, ...] = ()
"""Nothing of it comes from pip."""
DYNAMIC_INPUT = "ascend_mbatch_shape_data"
"""The input by which gears are chosen: ACL_DYNAMIC_TENSOR_NAME."""
_HUGE_FIRST = 0
_TO_DEVICE, _TO_HOST = 1, 2
_ALREADY_INITIALIZED = 100002
_DTYPES = {
    0: "float32",
    1: "float16",
    2: "int8",
    3: "int32",
    4: "uint8",
    6: "int16",
    7: "uint16",
    8: "uint32",
    9: "int64",
    10: "uint64",
    11: "float64",
    12: "bool",
}
"""NumPy's names of aclDataType; NumPy has none for 27, bfloat16."""


class AclError(RuntimeError):
    """A call of ACL failed."""


def _acl() -> Any:
    """Return the module `acl`, from CANN's own folder if Python does not look there."""
    home = os.environ.get("ASCEND_HOME_PATH", "/usr/local/Ascend/cann")
    folder = os.path.join(home, "python", "site-packages")
    if os.path.isdir(folder) and folder not in sys.path:
        sys.path.append(folder)
    try:
        import acl
    except ImportError as error:
        raise UnfitMachineError(
            f"Python finds no pyACL ({error}); install CANN, and start Python after `source {home}/set_env.sh`"
        ) from error
    return acl


def _check(code: int, call: str) -> None:
    if code:
        raise AclError(f"{call} of ACL failed with the code {code}")


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Load an offline model onto the chip; the threads of the host matter little."""
    acl = _acl()
    code = acl.init()
    if code != _ALREADY_INITIALIZED:
        _check(code, "init")
    here = acl.get_soc_name()
    if options.get("soc_version", here) != here:
        raise UnfitMachineError(
            f"the form was compiled for {options['soc_version']}, and this machine has {here}; convert the model with "
            f"soc_version={here} in the template's runtime_options"
        )
    return OfflineModel(acl, path, options, int(os.environ.get("ASCEND_DEVICE_ID", "0")))


class OfflineModel(OpenedForm):
    """An offline model with buffers on the device for its inputs and outputs, made once, each for its largest size.

    The options `kind`, `gears` and `batches` are those of `gears.py`. Of each input in order, `names` has the name,
    `varying` the axes that vary, and `orders` how its bytes lie for AIPP: `nv12`, or `nhwc` if channels move last.
    """

    def __init__(self, acl: Any, path: str, options: Mapping[str, str], device: int) -> None:
        self._acl, self._device = acl, device
        self._kind = options.get("kind", "")
        self._names = options["names"].split(";")
        self._varying = [tuple(map(int, item.split(","))) if item else () for item in options["varying"].split(";")]
        self._orders = options.get("orders", ";" * (len(self._names) - 1)).split(";")
        separator = "," if self._kind == "dynamic_batch_size" else ";"
        self._gears = [tuple(map(int, g.split(","))) for g in options.get("gears", "").split(separator) if g]
        self._batches = {int(place) for place in options.get("batches", "").split(",") if place}
        self._context = self._model = self._desc = None
        self._sets: list[Any] = []
        _check(acl.rt.set_device(device), "rt.set_device")
        try:
            self._context, code = acl.rt.create_context(device)
            _check(code, "rt.create_context")
            loaded, code = acl.mdl.load_from_file(path)
            _check(code, f"mdl.load_from_file of {os.path.basename(path)}")
            self._model = loaded
            self._desc = acl.mdl.create_desc()
            _check(acl.mdl.get_desc(self._desc, self._model), "mdl.get_desc")
            self._inputs = self._buffers(acl.mdl.get_num_inputs, acl.mdl.get_input_size_by_index)
            self._outputs = self._buffers(acl.mdl.get_num_outputs, acl.mdl.get_output_size_by_index)
            self._places = [self._place(name, at) for at, name in enumerate(self._names)]
        except BaseException:
            self.close()
            raise

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        return self.timed(feed)[0]

    def timed(self, feed: Mapping[str, Any]) -> tuple[list[Any], CallTimes]:
        """Return the outputs of a call, and its times: of the copies to the device and back, and between them."""
        acl = self._acl
        _check(acl.rt.set_context(self._context), "rt.set_context")
        arrays = [np.asarray(feed[name]) for name in self._names]
        gear, samples = self._gear(arrays)
        if gear is not None:
            arrays = self._filled(arrays, gear)
        started = time.perf_counter()
        for place, array, order in zip(self._places, arrays, self._orders, strict=True):
            self._copy_in(place, array.transpose(0, 2, 3, 1) if order == "nhwc" else array)
        copied = time.perf_counter()
        if gear is not None:
            self._choose(gear, arrays)
        _check(acl.mdl.execute(self._model, self._inputs[0], self._outputs[0]), "mdl.execute")
        computed = time.perf_counter()
        outputs = [self._copy_out(place) for place in range(len(self._outputs[1]))]
        ended = time.perf_counter()
        if gear is not None and samples is not None:
            filled = gear[min(self._batches)]
            outputs = [value[:samples] if value.shape[:1] == (filled,) else value for value in outputs]
        return outputs, CallTimes.between((started, copied, computed, ended))

    def close(self) -> None:
        """Release the model, its buffers and the device."""
        acl = self._acl
        for dataset, buffers in self._sets:
            for buffer, handle, _ in buffers:
                acl.destroy_data_buffer(handle)
                acl.rt.free(buffer)
            acl.mdl.destroy_dataset(dataset)
        if self._desc is not None:
            acl.mdl.destroy_desc(self._desc)
        if self._model is not None:
            acl.mdl.unload(self._model)
        if self._context is not None:
            acl.rt.destroy_context(self._context)
        if self._device >= 0:
            acl.rt.reset_device(self._device)
        self._sets, self._context, self._desc, self._model, self._device = [], None, None, None, -1

    def _buffers(self, count: Any, size_of: Any) -> tuple[Any, list[tuple[int, int, int]]]:
        acl = self._acl
        dataset = acl.mdl.create_dataset()
        made: list[tuple[int, int, int]] = []
        self._sets.append((dataset, made))
        for index in range(count(self._desc)):
            size = size_of(self._desc, index)
            buffer, code = acl.rt.malloc(size, _HUGE_FIRST)
            _check(code, f"rt.malloc of {size} bytes")
            handle = acl.create_data_buffer(buffer, size)
            made.append((buffer, handle, size))
            _, code = acl.mdl.add_dataset_buffer(dataset, handle)
            _check(code, "mdl.add_dataset_buffer")
        return dataset, made

    def _place(self, name: str, position: int) -> int:
        """Return the place of an input by its name; ATC may write it otherwise, and keeps the order."""
        place, code = self._acl.mdl.get_input_index_by_name(self._desc, name)
        return position if code else int(place)

    def _gear(self, arrays: Sequence[Any]) -> tuple[tuple[int, ...] | None, int | None]:
        """Return the gear of a call, and the samples of its batch if the gear has more.

        Raises:
            ValueError: No gear fits.
        """
        if not self._kind:
            return None, None
        given = [
            array.shape[axis] * 2 // 3 if order == "nv12" and axis == 1 else array.shape[axis]
            for array, axes, order in zip(arrays, self._varying, self._orders, strict=True)
            for axis in axes
        ]
        if self._kind != "dynamic_dims":
            given = given[: len(self._gears[0])]
        fitting = [
            gear
            for gear in self._gears
            if all(have == want or (at in self._batches and have < want)
                   for at, (have, want) in enumerate(zip(given, gear, strict=True)))
        ]  # fmt: skip
        if not fitting:
            known = "; ".join(",".join(map(str, gear)) for gear in self._gears)
            raise ValueError(
                f"the form was compiled for the profiles {known}, and {','.join(map(str, given))} is none of them"
            )
        best = min(fitting, key=math.prod)
        short = self._batches and given[min(self._batches)] < best[min(self._batches)]
        return best, given[min(self._batches)] if short else None

    def _filled(self, arrays: Sequence[Any], gear: tuple[int, ...]) -> list[Any]:
        """Return the arrays at the shapes of a gear, zeros behind the samples."""
        extents = iter(gear)
        filled = []
        for array, axes in zip(arrays, self._varying, strict=True):
            wanted = list(array.shape)
            for axis in axes:
                wanted[axis] = next(extents) if self._kind == "dynamic_dims" else wanted[axis]
                if self._kind == "dynamic_batch_size":
                    wanted[axis] = gear[0]
            missing = [(0, want - have) for want, have in zip(wanted, array.shape, strict=True)]
            filled.append(np.pad(array, missing) if any(more for _, more in missing) else array)
        return filled

    def _choose(self, gear: tuple[int, ...], arrays: Sequence[Any]) -> None:
        acl = self._acl
        index, code = acl.mdl.get_input_index_by_name(self._desc, DYNAMIC_INPUT)
        _check(code, f"mdl.get_input_index_by_name of {DYNAMIC_INPUT}")
        if self._kind == "dynamic_batch_size":
            code = acl.mdl.set_dynamic_batch_size(self._model, self._inputs[0], index, gear[0])
        elif self._kind == "dynamic_image_size":
            code = acl.mdl.set_dynamic_hw_size(self._model, self._inputs[0], index, gear[0], gear[1])
        else:
            dims = [extent for array in arrays for extent in array.shape]
            stated = {"name": "", "dimCount": len(dims), "dims": dims}
            code = acl.mdl.set_input_dynamic_dims(self._model, self._inputs[0], index, stated)
        _check(code, f"choosing the profile {gear}")

    def _copy_in(self, place: int, array: Any) -> None:
        acl = self._acl
        kind = acl.mdl.get_input_data_type(self._desc, place)
        if kind not in _DTYPES:
            raise ValueError(f"input {place} of the form has the type {kind} of ACL, which NumPy has no name for")
        content = np.ascontiguousarray(array, dtype=_DTYPES[kind]).tobytes()
        buffer, _, size = self._inputs[1][place]
        if len(content) > size:
            raise ValueError(f"input {place} has {len(content)} bytes, and the form takes {size}")
        code = acl.rt.memcpy(buffer, size, acl.util.bytes_to_ptr(content), len(content), _TO_DEVICE)
        _check(code, "rt.memcpy to the device")

    def _copy_out(self, place: int) -> Any:
        acl = self._acl
        dims, code = acl.mdl.get_cur_output_dims(self._desc, place)
        _check(code, "mdl.get_cur_output_dims")
        kind = acl.mdl.get_output_data_type(self._desc, place)
        if kind not in _DTYPES:
            raise ValueError(f"output {place} of the form has the type {kind} of ACL, which NumPy has no name for")
        dtype, shape = np.dtype(_DTYPES[kind]), tuple(dims["dims"])
        needed = math.prod(shape) * dtype.itemsize
        buffer, _, size = self._outputs[1][place]
        host, code = acl.rt.malloc_host(max(needed, 1))
        _check(code, f"rt.malloc_host of {needed} bytes")
        try:
            _check(acl.rt.memcpy(host, needed, buffer, min(needed, size), _TO_HOST), "rt.memcpy to the host")
            content = acl.util.ptr_to_bytes(host, needed)
        finally:
            acl.rt.free_host(host)
        return np.frombuffer(content, dtype).reshape(shape).copy()
