"""What a conversion is asked to do: the JSON form of `lathe.converter.v1.ConversionWork`, read and checked.

Protobuf writes 64-bit integers as strings and leaves defaults out; both forms are read here.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.failures import EngineFailure, FailureReason, first_objection
from engines.spec.devices import Runtime, load_catalog
from engines.spec.source_files import source_path
from engines.spec.tolerances import TOLERANCES, Tolerance
from engines.tensors.signature import check_shape

CLASSIFIERS = frozenset({"classification", "multi_classification"})
"""Postprocess methods under which an output is one score per class."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Preprocessing(_Message):
    """Preprocessing baked into the graph of one input."""

    mean_values: tuple[float, ...] = ()
    scale_values: tuple[float, ...] = ()
    input_color: str = "COLOR_ORDER_UNSPECIFIED"
    model_color: str = "COLOR_ORDER_UNSPECIFIED"

    @property
    def swaps_channels(self) -> bool:
        """Whether the package takes its channels in another order than the network."""
        unsaid = "COLOR_ORDER_UNSPECIFIED"
        return unsaid not in (self.input_color, self.model_color) and self.input_color != self.model_color

    @property
    def active(self) -> bool:
        """Whether there is anything to bake in."""
        return bool(self.mean_values or self.scale_values) or self.swaps_channels


class ComponentInput(_Message):
    """One input of a component.

    Attributes:
        shape: What the package is tuned for, for one sample; none for a scalar.
        sample_min: Smallest value of generated samples; with `sample_max` both 0, the dtype's usual range.
        min_shape: Smallest extent of each axis; empty where no axis but the batch varies.
        max_shape: Largest extent of each axis; empty where `min_shape` is.
        shapes: The shapes of a set, where only these may be, and not all between `min_shape` and `max_shape`.
        place: Where the tensor stands among the arguments, as tensor information writes it; of all inputs or of none.
        batch_axis: Axis that counts the samples of a batch: the first if None; -1 if none does.
        sample_values: Value in generated samples: one for all elements, or one for each element of `shape`.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    sample_min: float = 0.0
    sample_max: float = 0.0
    preprocessing: Preprocessing = Preprocessing()
    min_shape: tuple[int, ...] = ()
    max_shape: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    place: str = ""
    batch_axis: int | None = None
    sample_values: tuple[float, ...] = ()


class Component(_Message):
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
        """The largest batch: 1 where nothing was said."""
        return max(1, self.max_batch)


class ClassTaxonomy(_Message):
    """Classes of one classification task."""

    task: str
    classes: tuple[str, ...]


class Execution(_Message):
    """How the graph is made ready."""

    copy_parameters: bool = False
    fuse_operators: bool = False


class Template(_Message):
    """The full specification."""

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

    @property
    def arithmetic(self) -> str:
        """The precision; FP32 where nothing was said."""
        return "FP32" if self.precision == "PRECISION_UNSPECIFIED" else self.precision

    def tolerance(self, precision: str) -> Tolerance:
        """Return what a form in a precision is held to: `error_threshold` is for the template's own precision."""
        return TOLERANCES[precision].at(self.error_threshold if precision == self.arithmetic else 0.0)


class WorkArchitecture(_Message):
    """An architecture as a worker uses it."""

    name: str = ""
    class_name: str
    function: str
    source_path: str
    config: str = ""
    digest: str = ""


class WorkInput(_Message):
    """One file in the work directory."""

    path: str


class ConversionRequest(_Message):
    """Everything that a conversion needs."""

    inputs: tuple[WorkInput, ...] = ()
    template: Template
    architectures: dict[str, WorkArchitecture] = Field(default_factory=dict)
    samples_path: str = ""
    seed: int = 0
    parity_waivers: dict[str, str] = Field(default_factory=dict)
    source_digest: str = ""
    tensor_information: str = ""

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return the request of a JSON form, with everything checked that needs no file.

        Raises:
            EngineFailure: INVALID_SPEC naming the field; UNSUPPORTED_PRECISION naming who offers it.
        """
        try:
            request = cls.model_validate(values)
        except ValidationError as error:
            raise invalid_field(error) from error
        request._check()
        return request

    def runtime(self) -> Runtime:
        """Return the catalog's entry of the runtime.

        Raises:
            EngineFailure: INVALID_SPEC where the device or its runtime is unknown, TOOLCHAIN_UNAVAILABLE where
                this release has no builder for it.
        """
        return load_catalog().device(self.template.device).runtime(self.template.runtime)

    def source_of(self, component: Component) -> str:
        """Return the path of a component's model file, or its folder, in the work directory.

        Raises:
            EngineFailure: INVALID_SPEC where it is not there, or none is named among several files.
        """
        paths = [entry.path for entry in self.inputs]
        return source_path(self.template.source_format, component.name, component.source_file, paths)

    def is_first(self, component: Component) -> bool:
        """Return whether a component is the first, whose samples need no prefix."""
        return self.template.components[0].name == component.name

    def _check(self) -> None:
        template = self.template
        runtime = self.runtime()
        if template.arithmetic not in runtime.precisions:
            others = load_catalog().devices[template.device].runtimes.values()
            who = [other.name for other in others if template.arithmetic in other.precisions]
            raise EngineFailure(
                FailureReason.UNSUPPORTED_PRECISION,
                f"{template.runtime} on {template.device} does not offer {template.arithmetic}; "
                f"it offers {', '.join(runtime.precisions)}.",
                suggested_fix=f"Convert in FP32 and create a quantization task with {template.arithmetic}."
                if template.arithmetic in runtime.quantized
                else f"Choose one of these, or the runtime {' or '.join(who)}."
                if who
                else "Choose one of these.",
            )
        names = [component.name for component in template.components]
        if len(set(names)) != len(names):
            raise invalid(f"Component names are unique; the template has {', '.join(names)}.")
        for name in self.parity_waivers.keys() - set(names):
            raise invalid(f"A parity waiver names the component '{name}'; the template has {', '.join(names)}.")
        for component in template.components:
            self._check_component(component)

    def _check_component(self, component: Component) -> None:
        self.source_of(component)
        if self.template.source_format == "PTH" and component.name not in self.architectures:
            raise invalid(f"Component '{component.name}' is a state dict and has no architecture; name one.")
        for entry in component.inputs:
            check_shape(entry.shape, entry.name)
            if entry.sample_min > entry.sample_max:
                raise invalid(
                    f"Input '{entry.name}': sample_min {entry.sample_min} is over sample_max {entry.sample_max}."
                )


def invalid(message: str, fix: str = "") -> EngineFailure:
    """Return the INVALID_SPEC failure of a sentence, with what to do."""
    return EngineFailure(FailureReason.INVALID_SPEC, message, suggested_fix=fix)


def invalid_field(error: ValidationError) -> EngineFailure:
    """Return the INVALID_SPEC failure of a request that is not what it should be, naming the field."""
    where, what = first_objection(error)
    return invalid(f"The request's field '{where}' is wrong: {what}.")
