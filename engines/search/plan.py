"""The forms that a search tries: the candidates of every runtime, the most promising first.

The promises come from paired measurements: if the time runs out early, the forms that win most often were tried. Knobs
that never won on these processors are not candidates: ONNX Runtime's parallel mode, FP16 for speed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from engines.runtimes import measurable
from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.form import FormSpec
from engines.spec.devices import load_catalog
from engines.spec.toolchain import cpu


def candidates(device: str, now: Situation) -> list[FormSpec]:
    """Return the forms to try, the most promising first, without those that the device or this machine lacks.

    Raises:
        EngineFailure: INVALID_SPEC for a device that the catalog does not have, TOOLCHAIN_UNAVAILABLE if nothing can
            be timed here.
    """
    target, flags = load_catalog().device(device), cpu()[1]
    rooms = measurable(target)
    offered = {
        (room.name, precision) for room in rooms for precision in target.runtimes[room.name].all_precisions_on(flags)
    }
    there = replace(now, target=target)
    found = _by_promise(candidate for room in rooms for candidate in room.candidates(there))
    return [spec for spec in found if (spec.runtime, spec.precision) in offered]


def baselines(device: str, now: Situation) -> list[FormSpec]:
    """Return the candidates for the baseline, the best first: the first one that works stands for the source."""
    rooms = measurable(load_catalog().device(device))
    return _by_promise(candidate for room in rooms for candidate in room.baselines(now))


def _by_promise(found: Iterable[Candidate]) -> list[FormSpec]:
    ranked = sorted(found, key=lambda candidate: -candidate.promise)
    return list(dict.fromkeys(candidate.spec for candidate in ranked))
