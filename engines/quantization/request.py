"""The request of a quantization: the JSON form of `lathe.internal.v1.QuantizationWork`, read and checked."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ValidationError

from engines.failures import InvalidField, invalid_field
from engines.runtimes.targets import quantization_target
from engines.spec.request import ConversionRequest
from engines.spec.template import check_judged

DEFAULT_SAMPLES = 128
HALVES = frozenset({"FP16", "BF16"})
_SCHEMES = {"INT8": ("STATIC", "DYNAMIC", "WEIGHT_ONLY"), "INT4": ("WEIGHT_ONLY",)}
_UNSAID_SCHEME = "QUANTIZATION_SCHEME_UNSPECIFIED"
_UNSAID_METHOD = "CALIBRATION_METHOD_UNSPECIFIED"
_UNSAID_GRANULARITY = "GRANULARITY_UNSPECIFIED"


class CalibrationData(BaseModel, frozen=True):
    """Data that calibration runs on."""

    samples: int = 0
    batch_size: int = 0
    preprocessing: tuple[dict[str, Any], ...] = ()
    seed: int = 0


class AccuracyBound(BaseModel, frozen=True):
    """A bound on lost accuracy, in points of the metric."""

    max_degradation: float = 0.0
    metric: str = ""
    preprocessing: tuple[dict[str, Any], ...] = ()


class QuantizationSpec(BaseModel, frozen=True):
    """The specification; its properties fill in the defaults."""

    precision: str = "PRECISION_UNSPECIFIED"
    scheme: str = _UNSAID_SCHEME
    calibration_method: str = _UNSAID_METHOD
    calibration_data: CalibrationData | None = None
    asymmetric: bool = False
    granularity: str = _UNSAID_GRANULARITY
    excluded_nodes: tuple[str, ...] = ()
    accuracy: AccuracyBound | None = None

    @property
    def arithmetic(self) -> str:
        """The precision: INT8 if not given."""
        return "INT8" if self.precision == "PRECISION_UNSPECIFIED" else self.precision

    @property
    def kind(self) -> str:
        """STATIC, DYNAMIC, WEIGHT_ONLY, or HALF for floating point; STATIC if not given, WEIGHT_ONLY for INT4."""
        if self.arithmetic in HALVES:
            return "HALF"
        if self.scheme == _UNSAID_SCHEME:
            return "WEIGHT_ONLY" if self.arithmetic == "INT4" else "STATIC"
        return self.scheme

    @property
    def method(self) -> str:
        """The calibration method: ENTROPY_2 if not given."""
        return "ENTROPY_2" if self.method_is_open else self.calibration_method

    @property
    def method_is_open(self) -> bool:
        """Whether the request leaves the calibration method open."""
        return self.calibration_method == _UNSAID_METHOD

    @property
    def per_channel(self) -> bool:
        """Whether a weight has one scale per output channel, the default."""
        return self.granularity != "PER_TENSOR"

    def check_scheme(self) -> None:
        """Refuse a scheme that does not go with the precision; InvalidField with the field `scheme`."""
        if self.arithmetic in HALVES and self.scheme == _UNSAID_SCHEME:
            return
        scheme, allowed = self.kind if self.scheme == _UNSAID_SCHEME else self.scheme, _SCHEMES.get(self.arithmetic, ())
        if scheme not in allowed:
            takes = " or ".join(allowed) or "no scheme"
            raise InvalidField("scheme", f"{scheme} does not go with {self.arithmetic}, which takes {takes}")


class QuantizationRequest(BaseModel, frozen=True):
    """Everything that a quantization needs."""

    conversion: ConversionRequest
    template: dict[str, Any]
    spec: QuantizationSpec
    calibration: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return the request of a JSON form, with everything checked that needs no file.

        Raises:
            EngineFailure: INVALID_SPEC naming the field; UNSUPPORTED_PRECISION naming what the runtime offers.
        """
        work = values.get("conversion") or {}
        conversion = ConversionRequest.parse(work)
        try:
            request = cls.model_validate({**values, "conversion": conversion, "template": work["template"]})
        except ValidationError as error:
            raise invalid_field(error) from error
        request._check()
        return request

    def _check(self) -> None:
        spec, template = self.spec, self.conversion.template
        quantization_target(template.device, template.runtime, spec.arithmetic)
        spec.check_scheme()
        if spec.accuracy is not None:
            if self.evaluation is None:
                raise InvalidField("accuracy", "a bound on lost accuracy needs a dataset, and the work has none")
            check_judged(len(template.components), template.method, "accuracy")
