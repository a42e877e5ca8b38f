"""Runs this package: needs NumPy and the package's runtime, and nothing of the suite that made it.

    python infer.py                                    a smoke run on random input
    python infer.py --input x.npy --output y.npz       one input, any number of samples; an .npz names several
    from infer import Model; Model().run({"image": x}) the same from Python; `predictions` has classes and boxes

What it takes and gives stands in `manifest.json` beside it.
"""
# ruff: noqa: T201  # a script answers by printing

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

TIMED_RUNS = 20
OPEN = 2**31 - 1
"""Largest extent of an axis whose upper bound nobody knows."""


class InputError(ValueError):
    """An input that the package does not take: the message says which, why, and what it takes."""


class Model:
    """One component of the package, loaded.

    Args:
        directory: Where the package lies; beside this file where None.
        component: Name of the component; the first where None.
        threads: Threads of the runtime; every processor of this process where None.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, component: str | None = None, threads: int | None = None
    ) -> None:
        self.directory = Path(directory) if directory is not None else Path(__file__).resolve().parent
        self.manifest: dict[str, Any] = json.loads((self.directory / "manifest.json").read_text(encoding="utf-8"))
        components = {entry["name"]: entry for entry in self.manifest["components"]}
        if component is not None and component not in components:
            raise InputError(f"there is no component {component!r}; there are {', '.join(components)}")
        self.component: dict[str, Any] = components[component or next(iter(components))]
        self.inputs: list[dict[str, Any]] = self.component["signature"]["inputs"]
        self.outputs: list[str] = [entry["name"] for entry in self.component["signature"]["outputs"]]
        self._post = _beside("postprocess")
        entry = str(self.directory / self.component["entry"])
        self.runtime: dict[str, str] = self.component.get("runtime") or self.manifest["runtime"]
        threads = threads or len(os.sched_getaffinity(0))
        try:
            opened = _beside("runtimes").open_model(self.runtime["name"], entry, self.component["options"], threads)
            self._infer_all: Any = opened
        except ImportError as error:
            needed = " ".join(f"{name}=={number}" for name, number in self.manifest["requirements"]["packages"].items())
            raise InputError(f"{error}; this package needs: pip install {needed}") from error

    def run(self, inputs: Any) -> dict[str, Any]:
        """Return the outputs by name.

        Args:
            inputs: Arrays by name; one array alone where the component has one input. Any number of samples: more than
                the largest batch are run in batches of that size, and the outputs joined.

        Raises:
            InputError: where a name, dtype or shape is not what the component takes.
        """
        parts = self.split(self.check(inputs))
        values = self._infer_all(parts)
        if len(parts) == 1:
            return dict(zip(self.outputs, values[0], strict=True))
        name, axis = next(iter(self.batched().items()))
        sizes = [part[name].shape[axis] for part in parts]
        columns = zip(self.outputs, zip(*values, strict=True), strict=True)
        return {name: self._joined(name, column, sizes) for name, column in columns}

    def check(self, inputs: Any) -> dict[str, Any]:
        """Return the inputs with the dtypes that the component takes; raises `InputError`."""
        names = [entry["name"] for entry in self.inputs]
        if not isinstance(inputs, dict):
            if len(names) != 1:
                raise InputError(f"the component takes {len(names)} inputs, so name them: {', '.join(names)}")
            inputs = {names[0]: inputs}
        if set(inputs) != set(names):
            given = ", ".join(map(str, inputs)) or "none"
            raise InputError(f"the component takes the inputs {', '.join(names)}; given were {given}")
        batched = self.batched()
        arrays = {name: np.asarray(inputs[name]) for name in names}
        arrays = {e["name"]: _check(e, arrays[e["name"]], batched.get(e["name"])) for e in self.inputs}
        batches = {name: arrays[name].shape[axis] for name, axis in batched.items()}
        if len(set(batches.values())) > 1:
            raise InputError(f"all inputs have one batch; given were {batches}")
        return arrays

    def split(self, arrays: dict[str, Any]) -> list[dict[str, Any]]:
        """Return checked inputs in batches of at most the largest, the last one smaller."""
        batched, most = self.batched(), self.component["max_batch"]
        count = max((arrays[name].shape[axis] for name, axis in batched.items()), default=1)
        return [
            {name: _rows(value, batched.get(name), start, start + most) for name, value in arrays.items()}
            for start in range(0, count, most)
        ]

    def batched(self) -> dict[str, int]:
        """Return the batch axis of each input that has one, by name."""
        axes = {e["name"]: (e.get("batch_axis", 0), e["shape"]) for e in self.inputs if e.get("shape", {}).get("max")}
        ends = (1, self.component["max_batch"])
        return {n: a for n, (a, shape) in axes.items() if a >= 0 and (shape["min"][a], shape["max"][a]) == ends}

    def _joined(self, name: str, values: Any, sizes: list[int]) -> Any:
        entry = next(each for each in self.component["signature"]["outputs"] if each["name"] == name)
        shape = entry.get("shape") or {"min": [], "max": []}
        fixed = [low == high for low, high in zip(shape["min"], shape["max"], strict=True)]
        extents, most = list(zip(*(value.shape for value in values), strict=True)), self.component["max_batch"]
        constant = {axis for axis, is_fixed in enumerate(fixed) if is_fixed and most > 1}
        counted = [axis for axis, found in enumerate(extents) if list(found) == sizes and axis not in constant]
        if not counted:
            raise InputError(f"output {name!r} is not one row per sample, so at most {most} samples can be run at once")
        return np.concatenate(values, counted[0])

    def random_inputs(self, batch: int = 1, seed: int = 0) -> dict[str, Any]:
        """Return random inputs of the component's dtypes and shapes; those whose values are given have these."""
        rng = np.random.default_rng(seed)
        return {entry["name"]: _random(rng, entry, batch, self.batched().get(entry["name"])) for entry in self.inputs}

    def predictions(self, inputs: Any, outputs: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what the outputs say of each sample, by the package's method, as `postprocess/__init__.py` says.

        Classes come as `{"tasks": {task: scores}}`, detections as `{"boxes", "scores", "labels"}` with boxes as x, y,
        x, y in pixels of the model's input.
        """
        size = self._post.input_size(self.check(inputs)[self.inputs[0]["name"]].shape)
        args = self._post.plain(self.manifest["args"])
        found = self._post.run(self.manifest["method"], args, outputs, self.manifest["taxonomies"], size)
        return list(found)

    def describe(self, inputs: Any, outputs: dict[str, Any], most: int) -> list[str]:
        """Return the predictions of the first samples for people, a line each."""
        try:
            found = self.predictions(inputs, outputs)[:most]
        except self._post.OutputMismatch as mismatch:
            return [f"note: the outputs do not fit the method {self.manifest['method']}: {mismatch}"]
        lines = (self._post.describe(entry, self.manifest["taxonomies"], i) for i, entry in enumerate(found))
        return [line for sample in lines for line in sample]


def _beside(name: str) -> Any:
    """Import what lies beside this file, a file or a folder of code, however this file was started."""
    folder = Path(__file__).resolve().parent / name
    places, init = ([str(folder)], folder / "__init__.py") if folder.is_dir() else (None, folder.with_suffix(".py"))
    spec: Any = importlib.util.spec_from_file_location(f"package_{name}", init, submodule_search_locations=places)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _check(entry: dict[str, Any], array: Any, batch_axis: int | None) -> Any:
    name, dtype = entry["name"], _dtype(entry)
    if not np.can_cast(array.dtype, dtype, "same_kind") or (array.dtype.kind == "U") != (dtype.kind == "U"):
        raise InputError(f"input {name!r} takes {entry['dtype']}; given was {array.dtype}")
    shape = entry.get("shape")
    if shape is not None:
        low, high = shape["min"], shape["max"]
        fits = len(array.shape) == len(low) and all(
            a <= extent and (extent <= b or axis == batch_axis)
            for axis, (a, extent, b) in enumerate(zip(low, array.shape, high, strict=True))
        )
        if not fits:
            ends = zip(low, high, strict=True)
            wanted = " * ".join(str(a) if a == b else f"{a}..{b}" if b != OPEN else "any" for a, b in ends) or "scalar"
            given = " * ".join(map(str, array.shape)) or "scalar"
            raise InputError(f"input {name!r} takes the shape {wanted}; given was {given}")
    made = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and not np.array_equal(made, array):
        raise InputError(f"input {name!r} takes {dtype}, which does not hold all of the given values")
    return np.ascontiguousarray(made) if made.ndim else made


def _dtype(entry: dict[str, Any]) -> Any:
    return np.dtype(np.str_ if entry["dtype"] == "string" else entry["dtype"])


def _rows(array: Any, batch_axis: int | None, start: int, stop: int) -> Any:
    return array if batch_axis is None else array[(*[slice(None)] * batch_axis, slice(start, stop))]


def _random(rng: Any, entry: dict[str, Any], batch: int, batch_axis: int | None) -> Any:
    shape = list(entry.get("shape", {"opt": []})["opt"])
    (low, high), dtype = entry.get("range", [0.0, 1.0]), _dtype(entry)
    if batch_axis is not None:
        shape[batch_axis] = 1 if "value" in entry else batch
    if "value" in entry:
        values = entry["value"]
        one = (np.full(shape, values[0]) if len(values) == 1 else np.reshape(values, shape)).astype(dtype)
        return one if batch_axis is None else np.repeat(one, batch, batch_axis)
    if dtype.kind == "U":
        return np.full(shape, "")
    if dtype.kind == "f":
        return rng.uniform(low, high, shape).astype(dtype)
    return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)


def _load(path: str) -> Any:
    loaded = np.load(path, allow_pickle=False)
    return {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else loaded


def write_npz(file: Any, arrays: dict[str, Any]) -> None:
    """Write arrays under any names: numpy.savez takes none that one of its own parameters has, as `file`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _save(path: str, outputs: dict[str, Any]) -> None:
    if path.endswith(".npy"):
        if len(outputs) != 1:
            raise InputError(f"an .npy holds one output, and there are {len(outputs)}: write an .npz")
        np.save(path, next(iter(outputs.values())))
    else:
        write_npz(path if path.endswith(".npz") else f"{path}.npz", outputs)


def _warn_of_other_runtime(runtime: dict[str, str]) -> None:
    try:
        installed = version(_beside("runtimes").PACKAGES.get(runtime["name"], runtime["name"]))
    except PackageNotFoundError:
        installed = "a build of another name"
    if installed != runtime["version"]:
        print(f"note: verified with {runtime['name']} {runtime['version']}, running {installed}", file=sys.stderr)


def _main(arguments: argparse.Namespace) -> None:
    if arguments.batch < 1:
        raise InputError("--batch is at least 1")
    model = Model(component=arguments.component, threads=arguments.threads)
    _warn_of_other_runtime(model.runtime)
    if arguments.input is None:
        print("no --input: a smoke run on random values")
    inputs = _load(arguments.input) if arguments.input else model.random_inputs(arguments.batch)
    outputs = model.run(inputs)
    batches = model.split(model.check(inputs))
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        model.run(batches[0])
        times.append((time.perf_counter() - start) * 1000)
    for name, value in outputs.items():
        print(f"{name}: {value.dtype} {' * '.join(map(str, value.shape))}")
    of = f" of the first of {len(batches)} batches" if len(batches) > 1 else ""
    print(f"latency{of}: median {np.median(times):.3f} ms, best {min(times):.3f} ms, {TIMED_RUNS} runs")
    for line in model.describe(inputs, outputs, arguments.show):
        print(line)
    if arguments.output:
        _save(arguments.output, outputs)
        print(f"written: {arguments.output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help=".npy for one input, .npz with arrays named like the inputs")
    parser.add_argument("--output", help=".npz, or .npy where there is one output")
    parser.add_argument("--component", help="component to run; the first where not said")
    parser.add_argument("--batch", type=int, default=1, help="batch of the smoke run")
    parser.add_argument("--threads", type=int, help="threads of the runtime; every processor where not said")
    parser.add_argument("--show", type=int, default=3, help="samples whose predictions are printed")
    try:
        _main(parser.parse_args())
    except (InputError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
