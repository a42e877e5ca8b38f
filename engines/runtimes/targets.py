"""Rules about the runtime of a task that depend on what a runtime builds from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from engines.failures import FailureReason, InvalidField
from engines.runtimes import GRAPH, builds_from, graph_runtime, runtimes
from engines.runtimes.knobs import Knob, objection
from engines.spec.devices import DeviceRuntime, load_catalog
from engines.spec.targets import QUANTIZED, check_quantized, unsupported
from engines.spec.template import Component


def check_forms(device: str, runtime: str, source_format: str, forms: Collection[str]) -> None:
    """Refuse a runtime that builds from none of the forms that a source format offers.

    Raises:
        InvalidField: INVALID_SPEC naming the runtimes that take the source, or as `conversion_target`.
    """
    found = load_catalog().device(device)
    chosen = found.runtime(runtime)
    if builds_from(chosen.name, forms):
        return
    others = ", ".join(name for name in found.buildable_runtimes if builds_from(name, forms))
    raise InvalidField(
        "runtime",
        f"'{runtime}' builds from a {' or '.join(runtimes()[runtime].takes)}, and {source_format} offers a "
        f"{' or '.join(sorted(forms))} only; runtimes that take it: {others}",
        code="UNSUITABLE_RUNTIME",
    )


def options_of(runtime: str) -> list[Knob]:
    """Return the knobs that users can set; nothing if this release has no builder for the runtime.

    A knob that quantizes is no option: the precision of a task says what is computed in integers.
    """
    room = runtimes().get(runtime)
    return [knob for knob in room.knobs if not knob.quantizers] if room else []


def check_options(runtime: str, options: Mapping[str, str], components: Sequence[Component] = ()) -> None:
    """Refuse options that a runtime does not have, or values that they do not take.

    Args:
        runtime: A runtime that this release builds for.
        options: The options by name.
        components: What is built with them, as far as it is declared.

    Raises:
        InvalidField: INVALID_SPEC with the field `runtime_options[name]`, and what there is.
    """
    room, offered = runtimes()[runtime], options_of(runtime)
    for name, value in options.items():
        if wrong := objection(room.title, name, value, offered):
            raise InvalidField(f"runtime_options[{name}]", *wrong)
        knob = next(knob for knob in offered if knob.name == name)
        for component in components:
            if knob.mismatch and (words := knob.mismatch(value, component)):
                raise InvalidField(f"runtime_options[{name}]", f"it does not fit component '{component.name}': {words}")


def quantization_target(device: str, runtime: str, precision: str) -> DeviceRuntime:
    """Return the runtime of the catalog that a quantization builds for; a precision of `QUANTIZED`.

    Raises:
        InvalidField: INVALID_SPEC for another precision, an unknown device or a runtime that takes no quantized
            model, TOOLCHAIN_UNAVAILABLE if this release has no builder, UNSUPPORTED_PRECISION if the runtime does not
            compute in the precision.
    """
    check_quantized(precision)
    found = load_catalog().device(device)
    offered = {
        name: [each for each in (*known.quantized, *known.precisions) if each in QUANTIZED]
        for name, known in found.buildable_runtimes.items()
        if builds_from(name, {GRAPH}) or (name in runtimes() and runtimes()[name].integers)
    }
    if runtime not in offered:
        able = ", ".join(offered) or "none"
        raise InvalidField(
            "runtime",
            f"this release cannot build quantized forms for '{runtime}' on {found.id}; it can for: {able}",
            code="UNKNOWN_RUNTIME",
        )
    if precision not in offered[runtime]:
        others = [name for name, precisions in offered.items() if precision in precisions]
        raise unsupported(found, found.runtimes[runtime], precision, offered[runtime], others)
    return found.runtimes[runtime]


def reading_runtime(device: str) -> str:
    """Return the runtime in the template by which a search reads its source: one that takes every graph.

    Raises:
        InvalidField: INVALID_SPEC for an unknown device, TOOLCHAIN_UNAVAILABLE if this release builds nothing for it.
    """
    catalog = load_catalog()
    found = graph_runtime(catalog.device(device))
    if not found:
        able = ", ".join(name for name, each in catalog.devices.items() if graph_runtime(each))
        raise InvalidField(
            "device",
            f"this release builds nothing for {device}; it does for: {able}",
            f"Choose one of the devices {able}.",
            reason=FailureReason.TOOLCHAIN_UNAVAILABLE,
        )
    return found
