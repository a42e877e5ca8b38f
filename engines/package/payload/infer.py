"""Runs this package. Needs NumPy and the package's runtime, and nothing of the suite that made it.

    python infer.py                                    a smoke run on random input
    python infer.py --input x.npy --output y.npz       one input, any number of samples; an .npz names several
    from infer import Model; Model().run({"image": x}) the same from Python; `predictions` has classes and boxes

`manifest.json`, in the same folder, has its inputs and outputs.
"""
# ruff: noqa: T201  # a script prints its answer

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import types
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

TIMED_RUNS = 20


def _beside(name: str) -> Any:
    """Import a module from the folder of this file, however this file was started."""
    here = str(Path(__file__).resolve().parent)
    root = f"package_{zlib.crc32(here.encode()):08x}"  # several packages may be open in one process
    if root not in sys.modules:
        sys.modules[root] = types.ModuleType(root)
        sys.modules[root].__path__ = [here]
    return importlib.import_module(f"{root}.{name}")


_arrays, _postprocess = _beside("arrays"), _beside("postprocess")
InputError: type[ValueError] = _arrays.InputError


class Model:
    """One component of the package, loaded.

    Args:
        directory: The package; the folder of this file if None.
        component: Name of the component; the first if None.
        threads: Threads of the runtime; every processor of this process if None.
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
        self.runtime: dict[str, str] = self.component.get("runtime") or self.manifest["runtime"]
        options = self.component["options"]
        threads = threads or len(os.sched_getaffinity(0))
        self._opener = _beside(f"runtimes.{self.runtime['name'].replace('-', '_')}.opener")
        try:
            threads = _beside("runtimes.opened").set_up_process(options, threads)
            self._opened = self._opener.open_file(str(self.directory / self.component["entry"]), options, threads)
        except ImportError as error:
            needed = " ".join(f"{name}=={number}" for name, number in self.manifest["requirements"]["packages"].items())
            raise InputError(f"{error}; this package needs: pip install {needed}") from error

    def run(self, inputs: Any) -> dict[str, Any]:
        """Return the outputs by name.

        Args:
            inputs: Arrays by name; an array alone if the component has one input. Any number of samples: more than
                the largest batch run in batches of that size, and the outputs are joined.

        Raises:
            InputError: if a name, dtype or shape is not what the component takes.
        """
        parts = self.split(self.check(inputs))
        values = self._opened.run_many(parts)
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
            raise InputError(f"the component takes the inputs {', '.join(names)}, not {given}")
        batched = self.batched()
        arrays = {name: np.asarray(inputs[name]) for name in names}
        arrays = {e["name"]: _arrays.checked(e, arrays[e["name"]], batched.get(e["name"])) for e in self.inputs}
        batches = {name: arrays[name].shape[axis] for name, axis in batched.items()}
        if len(set(batches.values())) > 1:
            raise InputError(f"all inputs must have the same batch; theirs are {batches}")
        return arrays

    def split(self, arrays: dict[str, Any]) -> list[dict[str, Any]]:
        """Return checked inputs in batches of at most the largest, the last one smaller."""
        batched, most = self.batched(), self.component["max_batch"]
        count = max((arrays[name].shape[axis] for name, axis in batched.items()), default=1)
        return [
            {name: _arrays.rows(value, batched.get(name), start, start + most) for name, value in arrays.items()}
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
        """Return random inputs of the component's dtypes and shapes; inputs with stated values have those."""
        rng = np.random.default_rng(seed)
        axes = self.batched()
        return {each["name"]: _arrays.random(rng, each, batch, axes.get(each["name"])) for each in self.inputs}

    def predictions(self, inputs: Any, outputs: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the prediction for each sample, by the package's method (see `postprocess/__init__.py`).

        Classes are `{"tasks": {task: scores}}`, detections `{"boxes", "scores", "labels"}` with boxes as x, y,
        x, y in pixels of the model's input.
        """
        first = self.inputs[0]["name"]
        nv12 = self.component["preprocessing"].get(first, {}).get("input_color") == "NV12"
        size = _postprocess.input_size(self.check(inputs)[first].shape, nv12=nv12)
        args = _postprocess.plain(self.manifest["args"])
        found = _postprocess.run(self.manifest["method"], args, outputs, self.manifest["taxonomies"], size)
        return list(found)

    def installed_version(self) -> str:
        """Return the version of the runtime here, which may not be the one that the package was verified with."""
        try:
            return version(self._opener.PACKAGES[0])
        except PackageNotFoundError:
            return "a build of another name"

    def describe(self, inputs: Any, outputs: dict[str, Any], most: int) -> list[str]:
        """Return the predictions of the first samples in words, a line each."""
        try:
            found = self.predictions(inputs, outputs)[:most]
        except _postprocess.OutputMismatch as mismatch:
            return [f"note: the outputs do not fit the method {self.manifest['method']}: {mismatch}"]
        lines = (_postprocess.describe(entry, self.manifest["taxonomies"], i) for i, entry in enumerate(found))
        return [line for sample in lines for line in sample]


def _main(arguments: argparse.Namespace) -> None:
    if arguments.batch < 1:
        raise InputError("--batch is at least 1")
    model = Model(component=arguments.component, threads=arguments.threads)
    runtime, installed = model.runtime, model.installed_version()
    if installed != runtime["version"]:
        print(f"note: verified with {runtime['name']} {runtime['version']}, running {installed}", file=sys.stderr)
    if missing := model.component["parity"].get("missing"):
        print(f"UNVERIFIED: nobody has seen this form compute; missing: {missing}", file=sys.stderr)
    if arguments.input is None:
        print("no --input: a smoke run on random values")
    inputs = _arrays.load(arguments.input) if arguments.input else model.random_inputs(arguments.batch)
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
        _arrays.save(arguments.output, outputs)
        print(f"written: {arguments.output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help=".npy for one input, .npz with arrays named like the inputs")
    parser.add_argument("--output", help=".npz, or .npy if there is one output")
    parser.add_argument("--component", help="component to run; the first if not given")
    parser.add_argument("--batch", type=int, default=1, help="batch of the smoke run")
    parser.add_argument("--threads", type=int, help="threads of the runtime; every processor if not given")
    parser.add_argument("--show", type=int, default=3, help="samples whose predictions are printed")
    try:
        _main(parser.parse_args())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
