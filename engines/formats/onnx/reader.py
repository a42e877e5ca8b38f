"""An ONNX file as a source: it is the graph already; the truth is that graph in ONNX Runtime, not optimized."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason
from engines.formats.protocol import ReadJob
from engines.formats.source import Source, SourceGraph
from engines.graph.hygiene import check, external_files, load_model
from engines.graph.interface import refuse_empty_inputs, signature_of
from engines.graph.repair import defaults, repair
from engines.graph.versions import OLDEST_OPSET, is_old, lower_versions, modernized
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.spec.declared_inputs import check_declared
from engines.spec.information import names_in
from engines.tensors import Array
from engines.tensors.inputs import active_steps
from engines.tensors.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

_SHOWN = 5


def stated_inputs(path: Path, tensor_information: str) -> Sequence[TensorSpec]:
    """Return the inputs that a graph states; one that has a default only if tensor information names it."""
    model = load_model(path, weights=False)
    refuse_empty_inputs(model)
    repair(model, names_in(tensor_information))
    return signature_of(model).inputs


def read_onnx(original: Path, job: ReadJob) -> Source:
    """Read an ONNX file, its external data with it.

    An input that has a default stays an input if the component declares it. Else it becomes a constant, which a warning
    says.

    Raises:
        EngineFailure: INVALID_SPEC if the component declares other inputs than the graph's; INVALID_MODEL for a graph
            that cannot be computed; UNSUPPORTED_OPERATOR for operators that ONNX Runtime does not have.
    """
    model = load_model(original, weights=False)
    declared = [given.name for given in job.component.inputs]
    frozen = [name for name in defaults(model) if name not in declared]
    named = [output.name for output in model.graph.output]
    changed = _adapt(model, declared)
    signature = signature_of(model)
    check_declared(job.component, signature)
    _refuse_unread(signature)
    check(model)
    if changed:
        _rewrite(original, job.onnx_path, declared)
    else:
        shutil.copyfile(original, job.onnx_path)
    for name in external_files(model, original):
        (job.onnx_path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original.parent / name, job.onnx_path.parent / name)
    reference = _reference(job.onnx_path, original.name, old=is_old(model))
    ordered = [next(spec for spec in signature.inputs if spec.name == given.name) for given in job.component.inputs]

    def runner(values: Sequence[Array]) -> list[Array]:
        feed = {spec.name: value for spec, value in zip(ordered, values, strict=True)}
        return list(reference.run(feed).values())

    runner(job.arguments)
    graph = SourceGraph(job.onnx_path, "the ONNX file itself")
    return Source(
        Signature(tuple(ordered), signature.outputs),
        lambda: graph,
        runner,
        None,
        active_steps(job.component.inputs),
        notes=(*_frozen(frozen), *_renamed(named, [output.name for output in model.graph.output])),
    )


def _adapt(model: onnx.ModelProto, declared: Sequence[str]) -> bool:
    """Change a graph in place so that runtimes take it; return whether it was changed."""
    lowered = lower_versions(model)
    if lowered:
        log.info("The file states newer versions than ONNX Runtime reads; they are lowered, its operators the same.")
    repaired = repair(model, declared)
    if repaired:
        log.info("The graph is changed for the runtimes: names, outputs that are listed twice, inputs with a default.")
    return lowered or repaired


def _rewrite(original: Path, onnx_path: Path, declared: Sequence[str]) -> None:
    """Write the graph with its weights as runtimes take it; external data are left alone."""
    import onnx

    model = onnx.load_model(original, load_external_data=False)
    _adapt(model, declared)
    onnx_path.write_bytes(model.SerializeToString())


def _frozen(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return (
        f"The graph has inputs with a default: {shown}{more}. In the package the default is a constant; declare it as "
        "an input of the component to keep it an input.",
    )


def _refuse_unread(signature: Signature) -> None:
    unread = next((spec.name for spec in signature.outputs if spec.dtype == "bfloat16"), None)
    if unread is not None:
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"The output '{unread}' of the graph is in bfloat16, which ONNX Runtime does not return to Python, so "
            "that it cannot be compared.",
            node=unread,
            suggested_fix="Let the graph end with a Cast of this output to float32.",
        )


def _renamed(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    for old, new in zip(before, after, strict=True):
        if old != new:
            yield f"The output '{old}' has the name of another output or of an input; in the package it is '{new}'."


def _reference(onnx_path: Path, shown: str, *, old: bool) -> OnnxRuntimeSession:
    """Open the graph; one of an old operator set is raised to a newer one, if the runtime refuses it as it is."""
    try:
        return _open(onnx_path)
    except EngineFailure as failure:
        if not old or failure.reason is not FailureReason.UNSUPPORTED_OPERATOR:
            raise _explained(failure, onnx_path, shown) from failure
        return _modernized(onnx_path, shown, failure)


def _modernized(onnx_path: Path, shown: str, refusal: EngineFailure) -> OnnxRuntimeSession:
    import onnx

    model = modernized(onnx.load_model(onnx_path, load_external_data=False))
    try:
        if model is None:
            raise refusal
        onnx_path.write_bytes(model.SerializeToString())
        return _open(onnx_path)
    except EngineFailure as failure:
        raise EngineFailure(
            FailureReason.UNSUPPORTED_OPERATOR,
            f"'{shown}' states an operator set older than {OLDEST_OPSET}, the oldest that ONNX Runtime reads in full, "
            f"and ONNX's version converter cannot raise it. {refusal.message}",
            node=refusal.node,
            operator=refusal.operator,
            evidence=failure.evidence,
            suggested_fix=f"Export the model again with operator set {OLDEST_OPSET} or newer.",
        ) from failure


def _open(onnx_path: Path) -> OnnxRuntimeSession:
    return OnnxRuntimeSession(onnx_path, len(os.sched_getaffinity(0)), optimise=False)


def _explained(failure: EngineFailure, onnx_path: Path, shown: str) -> EngineFailure:
    """Return the failure of a graph whose types or shapes contradict each other: no fault of the runtime."""
    _, found, what = failure.evidence.partition(f"{onnx_path.name} failed:")
    if failure.reason is not FailureReason.TOOLCHAIN_CRASHED or not found:
        return failure
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{shown}' cannot be computed as it is: {what}",
        evidence=failure.evidence,
        suggested_fix="Export the model again; if you made it, onnx.checker.check_model(model, full_check=True) says "
        "what is wrong with it.",
    )
