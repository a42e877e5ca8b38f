"""Makes an exported graph ready for a builder: tidied, with the execution parameters and preprocessing carried out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.graph.fusion import fuse_operators
from engines.graph.hygiene import load_model, save_model, summary, tidy
from engines.graph.parameters import copy_parameters
from engines.graph.plain import plain
from engines.graph.preprocessing import bake
from engines.spec.template import Execution
from engines.tensors.inputs import ComponentInput


def make_ready(source: Path, target: Path, inputs: Sequence[ComponentInput], execution: Execution) -> list[str]:
    """Write the graph as a builder takes it; return what it was, what was done to it and what it is, in words.

    Operators are fused before parameters are copied, because fusing may join equal ones again, and before preprocessing
    is put in front, because a mean folded into a padded convolution is not the same at the borders.

    Args:
        source: The exported graph.
        target: Where the ready graph goes.
        inputs: Inputs of the package; preprocessing of these is baked in.
        execution: Execution parameters.

    Raises:
        EngineFailure: INVALID_MODEL, INVALID_SPEC or TOOLCHAIN_CRASHED.
    """
    model = plain(load_model(source))
    done = [summary(model), "tidied"]
    model = tidy(model)
    if execution.fuse_operators:
        model = tidy(fuse_operators(model))
        done.append("operators fused")
    if execution.copy_parameters:
        model = copy_parameters(model)
        done.append("shared parameters copied")
    baked = [given.name for given in inputs if given.preprocessing.active]
    if baked:
        model = tidy(bake(model, inputs))
        done.append(f"preprocessing baked in for {', '.join(baked)}")
    save_model(model, target)
    return [*done, summary(model)]
