"""AMCT, CANN's compression tool: int8 for Ascend from a floating-point graph and samples, by its command line.

    ONNX graph + samples ──amct_onnx calibration──▶ deploy model for ATC: AscendQuant ▶ operator on INT8 ▶ AscendDequant
                                                    fake-quant model: the same rounding in float32, for ONNX Runtime

It needs no chip. Its releases of ONNX and ONNX Runtime are not those of the engines, so it lives in a Python
environment of its own. The fake-quant model has operators of the domain `amct.customop`, whose library AMCT brings
along (`AMCT_SO`), so it runs in that environment, too.

Source: AMCT's manual (www.hiascend.com): the options of the command line (canncommercial 850, atlasamct_16_0336) and
its pages on `--data_dir`, `--batch_num` and `--calibration_config` (canncommercial 900, atlasamct_16_0347 to 0349);
`calibration_config_onnx.proto` (900, atlasamct_16_0163); the two models (800, atlasamct_16_0155); the library of
operators (800, atlasamct_16_0033); releases of ONNX and operator sets (900, atlasamct_16_0017).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model, save_model
from engines.runtimes.ascend.onnx_file import converted
from engines.runtimes.ascend.toolchain import system_path
from engines.sandbox.environment import AMCT
from engines.sandbox.tools import Ended, run_tool
from engines.tensors import Array, Arrays

log = logging.getLogger(__name__)

TOOL = "AMCT"
"""What the room calls it among the ways to quantize."""
INSTALL_AMCT = (
    "AMCT's command `amct_onnx`: install amct_onnx and its library of operators (amct_onnx_op) in a Python environment "
    f"of its own, and start the worker with {AMCT}=DIR"
)
NEWEST = 14
"""The newest operator set whose operators AMCT names."""
_COMMAND, _PREFIX = "amct_onnx", "result"
_DEPLOY, _FAKE = f"{_PREFIX}_deploy_model.onnx", f"{_PREFIX}_fake_quant_model.onnx"
_PROGRAM = Path(__file__).with_name("amct_process.py")
_OLD_IR, _NEW_IR = 7, 8
"""Versions of ONNX's files for operator sets up to 14, and up to 18: AMCT's releases of ONNX Runtime are old."""


@dataclass(frozen=True)
class Amct:
    """An installation of AMCT for ONNX.

    Attributes:
        command: `amct_onnx`.
        python: The Python that it is installed in; None if there is none beside the command.
        version: Its version; empty if it is not known.
    """

    command: Path
    python: Path | None
    version: str


@dataclass(frozen=True)
class Calibration:
    """How AMCT quantizes.

    Attributes:
        asymmetric: Whether ranges of activations have an offset.
        per_channel: Whether weights have one scale per channel where AMCT knows how; else one per tensor.
        excluded: Names of nodes that stay in floating point.
    """

    asymmetric: bool
    per_channel: bool
    excluded: Collection[str] = ()

    def config(self, batches: int) -> str:
        """Return the content of `--calibration_config` for a number of batches."""
        lines = [f"batch_num : {batches}", f"activation_offset : {str(self.asymmetric).lower()}"]
        lines += [f"skip_layers : {json.dumps(name, ensure_ascii=False)}" for name in sorted(self.excluded)]
        if not self.per_channel:
            lines.append("common_config : { arq_quantize : { channel_wise : false } }")
        return "\n".join([*lines, ""])


def find_amct() -> Amct | None:
    """Return the AMCT of the environment that `AMCT` names, else the one on PATH; None if there is none."""
    stated = os.environ.get(AMCT, "")
    found = shutil.which(_COMMAND, path=str(Path(stated) / "bin")) if stated else shutil.which(_COMMAND)
    if not found:
        return None
    command = Path(found)
    python = shutil.which("python3", path=str(command.parent))
    packages = sorted(command.parents[1].glob(f"lib/python3*/*-packages/{_COMMAND}-*.*-info"))
    version = packages[0].name.removeprefix(f"{_COMMAND}-").rpartition(".")[0] if packages else ""
    return Amct(command, Path(python) if python else None, version)


def calibrate(
    amct: Amct, graph: Path, feeds: Iterable[Arrays], how: Calibration, folder: Path, *, told: Callable[[str], None]
) -> Path:
    """Return the deploy model of a graph; the fake-quant model is beside it.

    Args:
        amct: The installation.
        graph: The graph in floating point.
        feeds: Calibration feeds. AMCT takes one shape: those of another one than most have are left out.
        how: The settings.
        folder: An empty folder for everything that AMCT reads and writes.
        told: Told each line of its output.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED with what AMCT said; UNSUPPORTED_OPERATOR for a graph that cannot be written
            with an operator set that AMCT's ONNX reads.
        Overrun: There was not enough time.
    """
    names = _write_graph(graph, folder / "model.onnx")
    first, count = _write_data(feeds, names, folder / "data")
    (folder / "calibration.cfg").write_text(how.config(count), encoding="utf-8")
    command = [str(amct.command), "calibration", *_arguments(names, first)]
    log.info("AMCT %s: %s", amct.version or "of unknown version", " ".join(command))
    ended = run_tool(command, _environment(amct), folder=folder, on_line=told)
    if ended.status or not (folder / _DEPLOY).is_file():
        raise EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            f"AMCT made no deploy model: {_last_line(ended)}",
            evidence=ended.text[-1000:],
            suggested_fix="Keep the layer that it names in floating point with excluded_nodes, or leave AMCT out by "
            "asking for a calibration method.",
        )
    return folder / _DEPLOY


def simulate(amct: Amct, folder: Path, feeds: Sequence[Arrays]) -> list[list[Array]]:
    """Return the outputs of the fake-quant model that `calibrate` left in a folder, for each feed, in their order.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED if AMCT's Python or its library of operators does not run it.
        Overrun: There was not enough time.
    """
    if amct.python is None:
        raise _not_simulated(f"there is no python3 beside {amct.command}")
    exchange = folder / "simulation"
    exchange.mkdir()
    for place, feed in enumerate(feeds):
        np.savez(exchange / f"feed{place}.npz", *feed.values())
    (exchange / "names.json").write_text(json.dumps([list(feed) for feed in feeds]), encoding="utf-8")
    program = shutil.copy(_PROGRAM, exchange)  # Python puts the program's folder before its packages
    ended = run_tool([str(amct.python), str(program), _FAKE, exchange.name], _environment(amct), folder=folder)
    if ended.status:
        log.info("AMCT's fake-quant model: %s", ended.text)
        raise _not_simulated(_last_line(ended))
    return [_arrays(exchange / f"outputs{place}.npz") for place in range(len(feeds))]


def _write_graph(graph: Path, target: Path) -> list[str]:
    """Write the graph with an operator set that AMCT's ONNX reads, and return the names of its inputs."""
    model = load_model(graph)
    try:
        model = converted(model, NEWEST)
    except EngineFailure as failure:
        log.info("AMCT gets a newer operator set than %d: %s", NEWEST, failure.message)
        model = converted(model)
    newest = max(entry.version for entry in model.opset_import)
    model.ir_version = min(model.ir_version, _OLD_IR if newest <= NEWEST else _NEW_IR)
    save_model(model, target)
    weights = {tensor.name for tensor in model.graph.initializer}
    return [given.name for given in model.graph.input if given.name not in weights]


def _write_data(feeds: Iterable[Arrays], names: Sequence[str], folder: Path) -> tuple[Arrays, int]:
    """Write the bytes of each input into a folder of its own; return one of the feeds, and how many there are."""
    shapes = Counter(_shapes(feed, names) for feed in feeds)
    chosen, count = shapes.most_common(1)[0]
    if left := shapes.total() - count:
        log.info("AMCT takes one shape: %d of %d batches have another one and are left out.", left, shapes.total())
    for place in range(len(names)):
        (folder / f"input{place}").mkdir(parents=True)
    one: Arrays = {}
    for number, feed in enumerate(each for each in feeds if _shapes(each, names) == chosen):
        one = one or feed
        for place, name in enumerate(names):
            (folder / f"input{place}" / f"batch{number:06}.bin").write_bytes(np.ascontiguousarray(feed[name]).tobytes())
    return one, count


def _shapes(feed: Arrays, names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    return tuple(feed[name].shape for name in names)


def _arguments(names: Sequence[str], feed: Arrays) -> Iterator[str]:
    """Yield the options of `amct_onnx calibration`; the paths are those of its folder."""
    yield "--model=model.onnx"
    yield f"--save_path=./{_PREFIX}"
    yield f"--input_shape={';'.join(f'{name}:{_extents(feed[name])}' for name in names)}"
    yield f"--data_dir={';'.join(f'data/input{place}/' for place in range(len(names)))}"
    yield f"--data_types={';'.join(feed[name].dtype.name for name in names)}"
    yield "--calibration_config=./calibration.cfg"


def _extents(array: Array) -> str:
    return ",".join(map(str, array.shape))


def _environment(amct: Amct) -> dict[str, str]:
    """Return the variables of AMCT's Python, which is not that of the engines."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    return kept | {"PATH": os.pathsep.join([str(amct.command.parent), *system_path()])}


def _last_line(ended: Ended) -> str:
    lines = [line.strip() for line in ended.text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit status {ended.status}"


def _not_simulated(why: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"AMCT's fake-quant model did not run: {why}",
        suggested_fix="Build and install AMCT's library of operators (amct_onnx_op) in its Python environment.",
    )


def _arrays(path: Path) -> list[Array]:
    with np.load(path) as kept:
        return [kept[f"arr_{place}"] for place in range(len(kept.files))]
