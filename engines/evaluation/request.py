"""The request of an evaluation: the JSON form of `lathe.internal.v1.EvaluationWork`, parsed and checked."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from engines.evaluation.arguments import check_arguments
from engines.failures import invalid, invalid_field
from engines.package.manifest import Manifest
from engines.postprocess import plain


class Spec(BaseModel, frozen=True):
    """The fields of `lathe.evaluator.v1.EvaluationSpec`; the properties below fill in defaults."""

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
        """Number of passes over the data."""
        return max(1, self.loops)

    def method_of(self, manifest: Manifest) -> tuple[str, dict[str, Any]]:
        """Return method and plain arguments: those of the request over those of the package.

        Raises:
            EngineFailure: INVALID_SPEC for a method or an argument that does not exist.
        """
        method = self.method or manifest.method
        # Arguments belong to their method: those of the package do not apply to another one.
        own = plain(manifest.args) if method == manifest.method else {}
        try:
            args = own | plain(self.args)
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise invalid(f"The method's arguments are not valid typed arguments: {self.args}.") from error
        check_arguments(method, args)
        return method, args


class EvaluationRequest(BaseModel, frozen=True):
    """The request of an evaluation; `dataset` is None if images were uploaded."""

    dataset: dict[str, Any] | None = None
    spec: Spec

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return the request from its JSON form, after all checks that need no file.

        Raises:
            EngineFailure: INVALID_SPEC naming the field.
        """
        try:
            request = cls.model_validate(values)
        except ValidationError as error:
            raise invalid_field(error) from error
        for threshold in request.spec.iou_thresholds:
            if not 0 < threshold <= 1:
                raise invalid(f"The IoU threshold is {threshold:g}; it must be over 0 and at most 1.")
        return request

    def method(self, manifest: Manifest, precision: str) -> tuple[str, dict[str, Any]]:
        """Return the method and its plain arguments; requested ones override those of the package.

        Args:
            manifest: The package's manifest.
            precision: Precision of the component.

        Raises:
            EngineFailure: INVALID_SPEC for an unknown method or argument, or if the component has another precision.
        """
        asked = self.spec.precision
        if asked not in {"PRECISION_UNSPECIFIED", "", precision}:
            raise invalid(f"The requested precision is {asked}, but the package has {precision}.")
        return self.spec.method_of(manifest)
