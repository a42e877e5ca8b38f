"""Judges a quantized form in the runtime that will serve it: parity with the source, then accuracy."""

from __future__ import annotations

import functools
import math
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from engines.evaluation.judge import Judge
from engines.formats.source import Source
from engines.graph.hygiene import load_model
from engines.graph.walk import all_tensors
from engines.parity.comparison import Parity
from engines.parity.report import OutputParity, ParityReport, Verdict
from engines.quantization.coverage import Coverage, coverage_of, nothing_quantized
from engines.quantization.request import HALVES, AccuracyBound
from engines.runtimes import BuildOptions, BuildSource, BuiltForm, Runtime, Session
from engines.spec.devices import Device
from engines.spec.tolerances import TOLERANCES
from engines.tensors import Arrays
from engines.tensors.samples import Samples
from engines.tensors.signature import Signature, TensorSpec


@dataclass(frozen=True)
class Bound:
    """What accuracy has to hold to.

    Attributes:
        judge: Measures a form.
        source: Metric of the source, 0 to 1.
        asked: The bound that was asked for.
    """

    judge: Judge
    source: float
    asked: AccuracyBound

    def holds(self, accuracy: float) -> bool:
        """Return whether a form loses no more than allowed; not for a metric that is no number."""
        return self.lost_points(accuracy) <= self.asked.max_degradation + 1e-9

    def lost_points(self, accuracy: float) -> float:
        """Return the points lost."""
        return (self.source - accuracy) * 100


@dataclass(frozen=True)
class JudgedForm:
    """A form with what was found out about it.

    Attributes:
        name: What reports call it.
        quantizer: Name of the candidate that it was made from.
        graph: The quantized graph.
        form: What the runtime built of it.
        session: The form, open.
        parity: Parity with the source.
        outputs: Specs of the outputs, wide enough for every shape seen.
        floating: The output names that cosine is taken of.
        excluded: Nodes that were left in floating point.
        accuracy: Its metric, where a bound was asked for.
        bound: The bound.
        size_bytes: Size of its weights.
        coverage: What of it is in integers; empty of a form in half precision.
    """

    name: str
    quantizer: str
    graph: Path
    form: BuiltForm
    session: Session
    parity: ParityReport
    outputs: tuple[TensorSpec, ...]
    floating: frozenset[str]
    excluded: frozenset[str]
    accuracy: float | None
    bound: Bound | None
    size_bytes: int
    coverage: Coverage

    @property
    def cosine(self) -> float:
        """The lowest cosine over the floating-point outputs."""
        return min((output.cosine for output in self._compared), default=1.0)

    @property
    def sqnr_db(self) -> float:
        """The lowest SQNR over the floating-point outputs."""
        return min((output.sqnr_db for output in self._compared), default=200.0)

    @property
    def score(self) -> float:
        """What is to be as large as possible: the metric where a bound was asked for, else the cosine."""
        return self.cosine if self.accuracy is None else self.accuracy

    @property
    def holds(self) -> bool:
        """Whether the bound holds; without one, whether the form computes what its source computes."""
        if self.bound is not None and self.accuracy is not None:
            return math.isfinite(self.accuracy) and self.bound.holds(self.accuracy)
        return self.parity.verdict is not Verdict.FAIL

    @property
    def shortfall(self) -> str:
        """Why it does not hold, in words; empty where it does."""
        if self.holds:
            return ""
        if self.bound is not None and self.accuracy is not None:
            lost = self.bound.lost_points(self.accuracy)
            return (
                f"it loses {lost:.2f} points of {self.bound.judge.metric}, more than the "
                f"{self.bound.asked.max_degradation:g} allowed"
            )
        return self.parity.shortfall

    @property
    def _compared(self) -> list[OutputParity]:
        return [output for output in self.parity.outputs if output.output in self.floating]


@dataclass
class Gate:
    """Judges the forms of one component.

    Attributes:
        source: The original.
        signature: Interface of the package.
        runtime: The runtime that will serve.
        target: Device that is built for.
        precision: Precision that forms are built in.
        samples: Feeds to judge on.
        classifier: Whether outputs are scores of classes.
        threads: Threads of every session.
        sessions: Closes the sessions that are opened here, once nobody runs a form any more.
        bound: The bound on accuracy, once the source was measured.
    """

    source: Source
    signature: Signature
    runtime: Runtime
    target: Device
    precision: str
    samples: Samples
    classifier: bool
    threads: int
    sessions: ExitStack
    bound: Bound | None = None

    @functools.cached_property
    def expected(self) -> list[Arrays]:
        """The source's outputs for every feed."""
        return [self.source.run(feed) for feed in self.samples.feeds]

    def judge(self, name: str, quantizer: str, graph: Path, excluded: frozenset[str]) -> JudgedForm:
        """Build a quantized graph and judge it.

        Raises:
            EngineFailure: UNSUPPORTED_OPERATOR if none of its products is in integers; whatever the runtime refuses it
                for; SHAPE_MISMATCH if an output has another shape than the source's.
        """
        coverage = Coverage() if self.precision in HALVES else coverage_of(graph)
        if self.precision not in HALVES and not coverage.quantized_products:
            raise nothing_quantized(coverage, self.precision, excluded)
        out_dir = graph.parent / "built"
        shutil.rmtree(out_dir, ignore_errors=True)
        source = BuildSource.of_file(graph, self.signature)
        form = self.runtime.build(source, self.target, BuildOptions(self.precision), out_dir)
        session = self.sessions.enter_context(self.runtime.open(form, self.target, self.threads))
        specs = {spec.name: spec for spec in self.source.signature.outputs}
        parity = Parity(tuple(specs), classifier=self.classifier)
        for feed, expected in zip(self.samples.feeds, self.expected, strict=True):
            actual = session.run(feed)
            parity.add(expected, actual)
            specs = {key: spec.including(expected[key].shape) for key, spec in specs.items()}
        return JudgedForm(
            name,
            quantizer,
            graph,
            form,
            session,
            parity.report(TOLERANCES[self.precision], self.samples),
            tuple(specs.values()),
            self._floating(),
            excluded,
            self.bound.judge.score(session.run) if self.bound else None,
            self.bound,
            weights_size(form),
            coverage,
        )

    def _floating(self) -> frozenset[str]:
        names = {name for name, array in self.expected[0].items() if array.dtype.kind == "f"}
        return frozenset(names or self.expected[0])


def weights_size(form: BuiltForm) -> int:
    """Return the bytes of a form's weights: of the tensors of an ONNX graph, of the file of weights of an IR."""
    if form.entry.suffix == ".xml":
        return form.entry.with_suffix(".bin").stat().st_size
    return sum(tensor.ByteSize() for tensor in all_tensors(load_model(form.entry)))
