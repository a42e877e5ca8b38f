"""AMCT, Ascend's own quantizer, as a candidate: its deploy model is what ATC compiles.

AMCT finds ranges by its own search (IFMR) and weights' scales by ARQ, so it is a candidate only if no method of
calibration was asked for. What its fake-quant model computes is compared with the graph and stands among the warnings:
it tells what the rounding does, not what the chip computes.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.failures import EngineFailure, first_line
from engines.parity.comparison import OutputComparison
from engines.quantization.quantizers import NOTES, Material, Quantizer, Settings
from engines.runtimes import runtimes
from engines.runtimes.ascend.amct import INSTALL_AMCT, TOOL, Amct, Calibration, calibrate, find_amct, simulate
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.spec.tolerances import TOLERANCES
from engines.tensors import Arrays

log = logging.getLogger(__name__)

SIMULATED_FEEDS = 4
"""Calibration batches that the fake-quant model is compared on."""


@dataclass(frozen=True)
class AmctQuantizer:
    """AMCT by its command line."""

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        return f"{TOOL} {settings.in_words(method='IFMR')}"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the deploy model, and beside it what its simulation says.

        Raises:
            EngineFailure: What AMCT fails with.
            Overrun: There was not enough time.
        """
        amct = find_amct()
        assert amct is not None  # recipes offer it only if it is installed
        folder = out_dir / "amct"
        folder.mkdir()
        how = Calibration(settings.asymmetric, settings.per_channel, excluded)
        feeds = material.calibration()
        deployed = calibrate(amct, material.graph, feeds, how, folder, told=lambda line: log.info("AMCT: %s", line))
        shutil.rmtree(folder / "data")
        note = _simulated(amct, folder, material.graph, list(itertools.islice(feeds, SIMULATED_FEEDS)), settings)
        (out_dir / NOTES).write_text(note, encoding="utf-8")
        for each in (deployed, *folder.glob("*.external")):
            shutil.move(each, out_dir / each.name)
        shutil.rmtree(folder)
        return out_dir / deployed.name


def amct_quantizers(settings: Settings) -> list[Quantizer]:
    """Return AMCT if the runtime takes its deploy models and it is installed here, else nothing."""
    return [AmctQuantizer()] if _takes(settings.runtime) and find_amct() else []


def missing_amct(runtime: str) -> str:
    """Return what to install for AMCT if the runtime takes its deploy models and it is not here; else nothing."""
    return INSTALL_AMCT if _takes(runtime) and not find_amct() else ""


def _takes(runtime: str) -> bool:
    integers = runtimes()[runtime].integers if runtime in runtimes() else None
    return integers is not None and integers.tool == TOOL


def _simulated(amct: Amct, folder: Path, graph: Path, feeds: Sequence[Arrays], settings: Settings) -> str:
    """Return what the fake-quant model says in a sentence: its worst output, or why it does not run."""
    tolerance = TOLERANCES[settings.precision]
    try:
        outputs = simulate(amct, folder, feeds)
        with OnnxRuntimeSession(graph, 1, optimise=False) as session:
            expected = [session.run(feed) for feed in feeds]
        compared = [OutputComparison(name) for name in expected[0]]
        for wanted, found in zip(expected, outputs, strict=True):
            for each, array in zip(compared, found, strict=True):
                each.add(wanted[each.output], array)
    except (EngineFailure, ValueError) as failure:  # ValueError: it has another number of outputs
        return f"AMCT's simulation says nothing of this form: {first_line(failure)}"
    worst = min((each.result(tolerance) for each in compared), key=lambda result: result.cosine)
    return (
        f"AMCT's simulation on a CPU, on {len(feeds)} calibration batches: '{worst.output}' has a cosine of "
        f"{worst.cosine:.6f} against the source, {worst.verdict} at {tolerance}. No chip computed it."
    )
