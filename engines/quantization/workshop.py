"""Makes forms: runs a quantizer, hands its graph to the gate, and tells of a tool's failure in a sentence."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from engines.failures import EngineFailure, FailureReason, first_line
from engines.graph.hygiene import load_model, save_model
from engines.graph.nodes import separate_integers
from engines.quantization.gate import Gate, JudgedForm
from engines.quantization.plan import Candidate
from engines.quantization.quantizers import Material

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A candidate and what became of it: a form, or the reason why there is none."""

    candidate: Candidate
    form: JudgedForm | None
    failure: EngineFailure | None = None


@dataclass
class Workshop:
    """Makes forms of one component.

    Attributes:
        material: What quantizers work on.
        gate: Judges what they make.
        excluded: Nodes that the specification keeps in floating point.
        say: Takes a sentence on what is being done.
    """

    material: Material
    gate: Gate
    excluded: frozenset[str]
    say: Callable[[str], None]
    _made: int = field(default=0)

    def try_out(self, candidate: Candidate, kept: frozenset[str] = frozenset(), name: str = "") -> Trial:
        """Make and judge a candidate; what its tool raises becomes its failure.

        Args:
            candidate: Which quantizer, with which settings.
            kept: Nodes kept in floating point beside those of the specification.
            name: What reports call the form; the candidate's own name where empty.
        """
        name = name or candidate.name
        self.say(f"trying {name}")
        try:
            form = self._make(candidate, kept, name)
        except EngineFailure as failure:
            log.info("%s: failed: %s %s", name, failure.message, failure.evidence)
            return Trial(candidate, None, failure)
        log.info("%s: %s", name, described(form))
        return Trial(candidate, form)

    def _make(self, candidate: Candidate, kept: frozenset[str], name: str) -> JudgedForm:
        self._made += 1
        out_dir = self.material.scratch / f"form-{self._made}"
        out_dir.mkdir(parents=True, exist_ok=True)
        excluded = self.excluded | kept
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):  # tools count on the screen
                graph = candidate.quantizer.quantize(self.material, candidate.settings, excluded, out_dir)
        except (EngineFailure, MemoryError):
            raise
        except Exception as error:
            raise _tool_failed(candidate.name, error) from error
        if graph.suffix == ".onnx":
            model = load_model(graph)
            separate_integers(model)
            save_model(model, graph)
        return self.gate.judge(name, candidate.name, graph, excluded)


def described(form: JudgedForm) -> str:
    """Return what the gate found, as a line for people."""
    accuracy = "" if form.accuracy is None else f", accuracy {form.accuracy:.4f}"
    return (
        f"cosine {form.cosine:.5f}, SQNR {form.sqnr_db:.1f} dB{accuracy}, {form.size_bytes} bytes of weights: "
        f"{form.shortfall or 'holds'}"
    )


def _tool_failed(name: str, error: Exception) -> EngineFailure:
    log.info("%s raised", name, exc_info=error)
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"The quantizer failed: {first_line(error)}",
        evidence=str(error).strip()[-1000:],
    )
