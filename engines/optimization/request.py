"""The request of an optimization: the JSON form of `lathe.internal.v1.OptimizationWork`, read and checked."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ValidationError

from engines.failures import InvalidField, invalid_field
from engines.runtimes.targets import reading_runtime
from engines.spec.devices import Device, load_catalog
from engines.spec.request import ConversionRequest
from engines.spec.targets import check_engines, check_goal
from engines.spec.template import check_judged

DEFAULT_BUDGET_SECONDS = 600


def _seconds(value: Any) -> Any:
    return value.removesuffix("s") if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds)]
"""A duration as JSON writes it: `90s`."""


class OptimizationSpec(BaseModel, frozen=True):
    """The specification; its properties fill in the defaults."""

    precision_goal: str = "PRECISION_UNSPECIFIED"
    objective: str = "OBJECTIVE_UNSPECIFIED"
    search_budget: Seconds = 0.0
    error_threshold: float = 0.0
    max_degradation: float = 0.0
    quantization_aware: bool = False
    engine_version: str = ""
    tensor_information: str = ""
    max_batch: int = 0
    seed: int = 0
    metric: str = ""
    preprocessing: tuple[dict[str, Any], ...] = ()
    memory_limit_bytes: int = 0

    @property
    def goal(self) -> str:
        """The lowest precision that is allowed: FP32, which loses nothing, if not given."""
        return "FP32" if self.precision_goal == "PRECISION_UNSPECIFIED" else self.precision_goal

    @property
    def aim(self) -> str:
        """The objective: LATENCY if not given."""
        return "LATENCY" if self.objective == "OBJECTIVE_UNSPECIFIED" else self.objective

    @property
    def budget_seconds(self) -> float:
        """Time for the search, in seconds."""
        return self.search_budget or DEFAULT_BUDGET_SECONDS


class OptimizationRequest(BaseModel, frozen=True):
    """Everything that an optimization needs.

    Attributes:
        conversion: How the source is read: into an ONNX graph in FP32.
        template: The specification of the source, as the work states it.
        spec: The specification of the optimization.
        calibration: The selection of a dataset, whose items are in `calibration/`.
        evaluation: The selection of a dataset, whose items are in `evaluation/`.
    """

    conversion: ConversionRequest
    template: dict[str, Any]
    spec: OptimizationSpec = OptimizationSpec()
    calibration: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return the request of a JSON form, with everything checked that needs no file.

        Raises:
            EngineFailure: INVALID_SPEC naming the field; TOOLCHAIN_UNAVAILABLE if nothing builds for the device.
        """
        work = values.get("conversion") or {}
        template = work.get("template") or {}
        try:
            spec = OptimizationSpec.model_validate(values.get("spec") or {})
            seed = spec.seed or work.get("seed") or 0
            said = {"seed": seed, "tensor_information": spec.tensor_information}
            conversion = ConversionRequest.parse({**work, "template": _as_read(template, spec.max_batch), **said})
            request = cls.model_validate({**values, "conversion": conversion, "template": template, "spec": spec})
        except ValidationError as error:
            raise invalid_field(error) from error
        request._check()
        return request

    @property
    def device(self) -> Device:
        """The catalog's entry of the device."""
        return load_catalog().device(self.conversion.template.device)

    @property
    def threshold(self) -> float:
        """Largest relative error of a lossless form: the request's, else the template's."""
        return self.spec.error_threshold or self.conversion.template.tolerance("FP32").threshold

    def _check(self) -> None:
        check_goal(self.device.id, self.spec.goal)
        check_engines(self.spec.engine_version)
        if self.evaluation is not None:
            template = self.conversion.template
            check_judged(len(template.components), template.method, "dataset")
        elif self.spec.max_degradation:
            raise InvalidField("max_degradation", "it needs a dataset, and the work has none")


def _as_read(template: dict[str, Any], max_batch: int) -> dict[str, Any]:
    """Return the template with a runtime that takes every ONNX graph: the search chooses the runtime of the package."""
    runtime = reading_runtime(str(template.get("device", "")))
    components = template.get("components", ())
    if max_batch:
        components = [{**component, "max_batch": max_batch} for component in components]
    return {**template, "runtime": runtime, "precision": "FP32", "components": components}
