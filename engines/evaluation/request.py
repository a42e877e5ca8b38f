"""What an evaluation is asked to do: the JSON form of `lathe.evaluator.v1.EvaluationWork`, read and checked."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.evaluation.arguments import check_arguments
from engines.failures import invalid, invalid_field
from engines.package.manifest import Manifest
from engines.postprocess import plain


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Spec(_Message):
    """What was asked for, as `lathe.evaluator.v1.EvaluationSpec`; defaults are filled in by the properties below."""

    batch_size: int = 0
    loops: int = 0
    precision: str = "PRECISION_UNSPECIFIED"
    iou_thresholds: tuple[float, ...] = ()
    slices: tuple[str, ...] = ()
    class_tasks: tuple[str, ...] = ()
    preprocessing: tuple[dict[str, Any], ...] = ()
    method: str = ""
    args: dict[str, dict[str, Any]] = Field(default_factory=dict)
    samples: int = 0
    seed: int = 0

    @property
    def batch(self) -> int:
        """Samples per call."""
        return max(1, self.batch_size)

    @property
    def passes(self) -> int:
        """Times that the data is run through."""
        return max(1, self.loops)


class EvaluationRequest(_Message):
    """Everything that an evaluation needs; `dataset` is None if images were uploaded."""

    dataset: dict[str, Any] | None = None
    spec: Spec

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return the request of a JSON form, with everything checked that needs no file.

        Raises:
            EngineFailure: INVALID_SPEC naming the field.
        """
        try:
            request = cls.model_validate(values)
        except ValidationError as error:
            raise invalid_field(error) from error
        for threshold in request.spec.iou_thresholds:
            if not 0 < threshold <= 1:
                raise invalid(f"The IoU threshold {threshold:g} is not over 0 and at most 1.")
        return request

    def method(self, manifest: Manifest, precision: str) -> tuple[str, dict[str, Any]]:
        """Return method and plain arguments: those asked for over those of the package.

        Args:
            manifest: The package's manifest.
            precision: What the component that is evaluated computes in.

        Raises:
            EngineFailure: INVALID_SPEC for what does not exist, and if the component has another precision.
        """
        asked = self.spec.precision
        if asked not in {"PRECISION_UNSPECIFIED", "", precision}:
            raise invalid(f"The precision {asked} was asked for; the package computes in {precision}.")
        method = self.spec.method or manifest.method
        # Arguments belong to their method: those of the package stay behind where another one is asked for.
        own = plain(manifest.args) if method == manifest.method else {}
        try:
            args = own | plain(self.spec.args)
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise invalid(f"An argument of the method is not written as a typed argument: {self.spec.args}.") from error
        check_arguments(method, args)
        return method, args
