"""The template of a task: how a model is read, and what its package is built for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from engines.failures import InvalidField
from engines.spec.tolerances import TOLERANCES, Tolerance
from engines.tensors.inputs import ComponentInput, check_input

CLASSIFIERS = frozenset({"classification", "multi_classification"})
"""Postprocessing methods whose outputs are one score per class."""
DETECTORS = frozenset({"detection", "yolo", "heads"})
"""Postprocessing methods that find boxes."""


class Component(BaseModel, frozen=True):
    """One graph of a model."""

    name: str
    model_type: str = ""
    inputs: tuple[ComponentInput, ...] = ()
    max_batch: int = 0
    architecture: str = ""
    state_dict_key: str = ""
    num_classes: int = 0
    source_file: str = ""
    output_names: tuple[str, ...] = ()

    @property
    def largest_batch(self) -> int:
        """The largest batch: 1 by default."""
        return max(1, self.max_batch)

    def check(self) -> None:
        """Refuse declared inputs that cannot be; see `check_input`.

        Raises:
            InvalidField: The field within the component, such as `inputs.x.shape`.
        """
        names = [given.name for given in self.inputs]
        if len(set(names)) != len(names):
            raise InvalidField("inputs", f"input names are unique, but these are {', '.join(names)}")
        for given in self.inputs:
            try:
                check_input(given, self.largest_batch)
            except InvalidField as failure:
                raise failure.under(f"inputs.{given.name}") from None


def check_judged(components: int, method: str, field: str) -> None:
    """Refuse to measure accuracy on several components or without a metric; InvalidField with the field."""
    if components > 1:
        raise InvalidField(
            field, f"accuracy is measured on models of one component, and this one has {components}; leave it out"
        )
    if method == "raw":
        raise InvalidField(
            field,
            "the template has the method raw, whose outputs cannot be judged; name a template with a method, or leave "
            "it out",
        )


class ClassTaxonomy(BaseModel, frozen=True):
    """Classes of one classification task."""

    task: str
    classes: tuple[str, ...]


class Execution(BaseModel, frozen=True):
    """Execution parameters: how the graph is prepared for the builder."""

    copy_parameters: bool = False
    fuse_operators: bool = False


class Template(BaseModel, frozen=True):
    """The complete specification of a package."""

    name: str = ""
    repo: str = ""
    version: str = ""
    method: str = "raw"
    error_threshold: float = 0.0
    source_format: str
    device: str
    runtime: str
    precision: str = "FP32"
    taxonomies: tuple[ClassTaxonomy, ...] = ()
    args: dict[str, dict[str, Any]] = Field(default_factory=dict)
    components: tuple[Component, ...] = Field(min_length=1)
    execution: Execution = Execution()
    runtime_options: dict[str, str] = Field(default_factory=dict)

    @property
    def arithmetic(self) -> str:
        """The precision; FP32 by default."""
        return "FP32" if self.precision == "PRECISION_UNSPECIFIED" else self.precision

    def tolerance(self, precision: str) -> Tolerance:
        """Return the tolerance of a form in a precision; `error_threshold` applies to the template's own precision."""
        return TOLERANCES[precision].at(self.error_threshold if precision == self.arithmetic else 0.0)
