"""The request of a profile: the JSON form of `lathe.internal.v1.ProfileWork`, read and checked."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ValidationError

from engines.failures import InvalidField, invalid_field
from engines.runtimes.targets import reading_runtime
from engines.spec.devices import load_catalog
from engines.spec.request import ConversionRequest

MOST_FORMS = 64
"""Most combinations of runtime, batch size, threads and streams in one profile."""


class ProfileSpec(BaseModel, frozen=True):
    """The specification of a profile.

    Attributes:
        runtimes: Runtimes of the catalog; if empty, all that are installed for the device and take the source.
        batch_sizes: Samples of a call; the batch that the model is tuned for if empty.
        threads: Threads of a form; all that the machine offers if empty.
        streams: Calls that a form computes at the same time; 1 if empty.
        rounds: Rounds of interleaved turns; as many as fit into some seconds if 0.
        seed: Seed of generated samples and of the order of turns.
        tensor_information: Inputs of a source as users write them.
        memory_limit_bytes: Most memory of the work; the device's if 0.
    """

    runtimes: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    rounds: int = 0
    seed: int = 0
    tensor_information: str = ""
    memory_limit_bytes: int = 0

    def check_size(self, runtimes: int) -> None:
        """Refuse more than `MOST_FORMS` combinations with so many runtimes.

        Raises:
            InvalidField: INVALID_SPEC with the numbers.
        """
        parts = {
            "runtimes": max(1, runtimes),
            "batch sizes": len(self.batch_sizes) or 1,
            "numbers of threads": len(self.threads) or 1,
            "numbers of streams": len(self.streams) or 1,
        }
        total = 1
        for number in parts.values():
            total *= number
        if total > MOST_FORMS:
            words = ", ".join(f"{number} {name}" for name, number in parts.items())
            raise InvalidField("batch_sizes", f"{words} are {total} measurements; one profile has {MOST_FORMS} at most")


class ProfileRequest(BaseModel, frozen=True):
    """Everything that a profile needs.

    Attributes:
        device: Device of the catalog.
        conversion: How a source is read; None if a package is profiled, whose files are in `package/`.
        spec: The specification.
    """

    device: str
    conversion: ConversionRequest | None = None
    spec: ProfileSpec = ProfileSpec()

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return the request of a JSON form, with everything checked that needs no file.

        Raises:
            EngineFailure: INVALID_SPEC naming the field; TOOLCHAIN_UNAVAILABLE if nothing builds for the device.
        """
        asked = values.get("spec") or {}
        try:
            spec = ProfileSpec.model_validate(asked)
            conversion = None
            if work := values.get("conversion"):
                said = {"seed": spec.seed, "tensor_information": spec.tensor_information}
                conversion = ConversionRequest.parse(
                    {**work, "template": _as_read(work.get("template") or {}, spec)} | said
                )
            request = cls(device=str(asked.get("device", "")), conversion=conversion, spec=spec)
        except ValidationError as error:
            raise invalid_field(error) from error
        load_catalog().device(request.device)
        spec.check_size(len(spec.runtimes))
        return request

    @property
    def memory_bytes(self) -> int:
        """Most memory of the work, in bytes."""
        return self.spec.memory_limit_bytes or load_catalog().device(self.device).memory_limit_bytes


def _as_read(template: dict[str, Any], spec: ProfileSpec) -> dict[str, Any]:
    """Return the template with a runtime that takes every graph, and with the largest batch that is measured."""
    components = template.get("components", ())
    if spec.batch_sizes:
        components = [{**component, "max_batch": max(spec.batch_sizes)} for component in components]
    runtime = reading_runtime(str(template.get("device", "")))
    return {**template, "runtime": runtime, "precision": "FP32", "components": components}
