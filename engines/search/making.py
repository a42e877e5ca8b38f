"""Makes forms of one component: what a spec says, by its runtime."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.formats.preparation import Prepared
from engines.runtimes import BuildOptions, BuildSource, runtime
from engines.runtimes.form import FormSpec, Made
from engines.runtimes.refusals import crashed
from engines.sandbox.deadline import check
from engines.spec.devices import Device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Maker:
    """Makes forms of a component.

    Attributes:
        prepared: The component.
        target: Device that is built for.
        workdir: Folder of the forms, each in a folder of its own.
        threads: Threads of every session.
        seed: Seed of random numbers.
        quantize: Returns the quantized graph of a form: ONNX, or what its runtime reads; None if nothing quantizes.
        options: The user's options of the runtime, which the knobs of a form precede.
        timings: Folder of what earlier builds have timed; None if nothing is to be kept.
    """

    prepared: Prepared
    target: Device
    workdir: Path
    threads: int
    seed: int = 0
    quantize: Callable[[FormSpec], Path] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    timings: Path | None = None

    def make(self, spec: FormSpec) -> Made:
        """Build a form; one that was built before is built anew, in the same place.

        Raises:
            EngineFailure: it cannot be built: UNSUPPORTED_PRECISION, UNSUPPORTED_OPERATOR, OUT_OF_MEMORY,
                TOOLCHAIN_UNAVAILABLE, TOOLCHAIN_CRASHED, or INVALID_SPEC for a spec that its runtime does not take.
            Overrun: There is no time left (`engines.sandbox.deadline`).
        """
        room = runtime(spec.runtime)
        quantized = self._quantized(spec)
        signature = self.prepared.signature
        source = BuildSource.of_file(quantized, signature) if quantized else self.prepared.build_source()
        check()
        folder = self.directory(spec)
        shutil.rmtree(folder, ignore_errors=True)
        knobs = {**self.options, **dict(spec.knobs)} | ({"reader": spec.reader} if spec.reader else {})
        try:
            options = BuildOptions(spec.precision, knobs, timings=self.timings)
            form = room.build(source, self.target, options, folder)
        except EngineFailure:
            raise
        except MemoryError as error:
            raise EngineFailure(
                FailureReason.OUT_OF_MEMORY,
                f"There is not enough memory to build {spec.name}.",
                suggested_fix="Raise the task's memory limit.",
            ) from error
        except Exception as error:  # a runtime's tools may raise anything
            log.exception("%s could not be built", spec.name)
            raise crashed(spec.runtime, f"build {spec.name}", error) from error
        log.info("%s: built %s, %d bytes, %s", spec.name, ", ".join(form.files), form.size_bytes, form.options)
        return Made(spec, form)

    def directory(self, spec: FormSpec) -> Path:
        """Return the folder of a form: a readable name, and a digest that tells forms apart."""
        digest = hashlib.sha256(json.dumps(spec.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
        return self.workdir / "forms" / f"{spec.runtime}-{spec.precision.lower()}-{digest}"

    def _quantized(self, spec: FormSpec) -> Path | None:
        if not spec.quantizer:
            return None
        if self.quantize is None:
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"{spec.name} needs calibration data, and the work has none.",
                suggested_fix="Name a dataset, or give calibration samples.",
            )
        return self.quantize(spec)
