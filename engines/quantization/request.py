"""What a quantization is asked to do: the JSON form of `lathe.quantizer.v1.QuantizationWork`, read and checked."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.failures import EngineFailure, FailureReason, invalid, invalid_field
from engines.spec.request import ConversionRequest

DEFAULT_SAMPLES = 128
HALVES = frozenset({"FP16", "BF16"})
_PRECISIONS = ("INT8", "INT4", "FP16", "BF16")
_UNSAID_METHOD = "CALIBRATION_METHOD_UNSPECIFIED"
_UNSAID_GRANULARITY = "GRANULARITY_UNSPECIFIED"


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class CalibrationData(_Message):
    """Data that calibration runs on."""

    samples: int = 0
    batch_size: int = 0
    preprocessing: tuple[dict[str, Any], ...] = ()
    seed: int = 0


class AccuracyBound(_Message):
    """A bound on lost accuracy, in points of the metric."""

    max_degradation: float = 0.0
    metric: str = ""
    preprocessing: tuple[dict[str, Any], ...] = ()


class QuantizationSpec(_Message):
    """What was asked for; the properties say what that means where nothing was said."""

    precision: str = "PRECISION_UNSPECIFIED"
    scheme: str = "QUANTIZATION_SCHEME_UNSPECIFIED"
    calibration_method: str = _UNSAID_METHOD
    calibration_data: CalibrationData | None = None
    asymmetric: bool = False
    granularity: str = _UNSAID_GRANULARITY
    excluded_nodes: tuple[str, ...] = ()
    accuracy: AccuracyBound | None = None

    @property
    def arithmetic(self) -> str:
        """The precision: INT8 where not said."""
        return "INT8" if self.precision == "PRECISION_UNSPECIFIED" else self.precision

    @property
    def kind(self) -> str:
        """STATIC, DYNAMIC, WEIGHT_ONLY, or HALF for a floating-point precision; STATIC where not said, but for INT4."""
        if self.arithmetic in HALVES:
            return "HALF"
        if self.scheme == "QUANTIZATION_SCHEME_UNSPECIFIED":
            return "WEIGHT_ONLY" if self.arithmetic == "INT4" else "STATIC"
        return self.scheme

    @property
    def method(self) -> str:
        """The calibration method: ENTROPY_2 where not said."""
        return "ENTROPY_2" if self.method_is_open else self.calibration_method

    @property
    def method_is_open(self) -> bool:
        """Whether nobody said how ranges are found."""
        return self.calibration_method == _UNSAID_METHOD

    @property
    def per_channel(self) -> bool:
        """Whether a weight has one scale per output channel: also where nothing was said."""
        return self.granularity != "PER_TENSOR"


class QuantizationRequest(_Message):
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
        spec, runtime = self.spec, self.conversion.runtime()
        if spec.arithmetic not in _PRECISIONS:
            raise invalid(
                f"A quantization makes {', '.join(_PRECISIONS)}; {spec.arithmetic} is what a conversion makes."
            )
        offered = [*runtime.quantized, *(name for name in runtime.precisions if name in HALVES)]
        if spec.arithmetic not in offered:
            raise EngineFailure(
                FailureReason.UNSUPPORTED_PRECISION,
                f"{runtime.name} on {self.conversion.template.device} has no quantization to {spec.arithmetic}; "
                f"it has {', '.join(offered) or 'none'}.",
                suggested_fix="Choose one of these, or another runtime.",
            )
        if spec.arithmetic == "INT4" and spec.kind != "WEIGHT_ONLY":
            raise invalid(f"INT4 is for weights alone; the scheme is {spec.kind}. Choose WEIGHT_ONLY, or INT8.")
        if spec.arithmetic in HALVES and spec.scheme != "QUANTIZATION_SCHEME_UNSPECIFIED":
            raise invalid(f"{spec.arithmetic} has no quantization scheme; {spec.scheme} is for INT8 and INT4.")
        if spec.accuracy is not None and self.evaluation is None:
            raise invalid("A bound on lost accuracy needs an evaluation dataset to measure it on; the work names none.")
        if spec.accuracy is not None and len(self.conversion.template.components) > 1:
            raise invalid("Accuracy is measured on models of one component; this one has several. Leave out the bound.")
