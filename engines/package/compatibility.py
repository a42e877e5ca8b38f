"""Says whether a package can run on a machine, from what the package says of itself and from the catalog of devices.

A package was verified in one version of its runtime. How far another one may be from it is what the vendor promises:

| runtime     | rule       | source                                                                                 |
|-------------|------------|----------------------------------------------------------------------------------------|
| onnxruntime | NEWER      | "Newer versions of ONNX Runtime support all models that worked with prior versions"    |
| openvino    | NEWER      | releases read the IR of earlier ones; models are published for a version "and higher"  |
| tflite      | NEWER      | the schema is backward compatible, operators are versioned                             |
| ascend      | NEWER      | an offline model runs on the CANN version that converted it and later ones             |
| torchscript | SAME_MAJOR | archives are read by later releases of a major version                                 |
| tensorrt    | EXACT      | an engine is tied to the version that built it                                         |
| inductor    | EXACT      | compiled code is linked against the libtorch that compiled it                          |

Under NEWER and SAME_MAJOR an older minor version is refused, because it may lack operators that the package uses; an
older patch of the same minor version is not. Whatever differs from the verified version is said, also where it may run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import Manifest, RuntimeEntry, ServedForm
from engines.spec.devices import Catalog, Device

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,5})(?:[-+_].*|\.?(?:a|b|rc|dev|post)\d.*)?")
_SHOWN_FLAGS = 8


class VersionRule(Enum):
    """Which versions of a runtime may run what was built with another."""

    NEWER = auto()
    SAME_MAJOR = auto()
    EXACT = auto()


RULES = {
    "onnxruntime": VersionRule.NEWER,
    "openvino": VersionRule.NEWER,
    "tflite": VersionRule.NEWER,
    "ascend": VersionRule.NEWER,
    "torchscript": VersionRule.SAME_MAJOR,
    "tensorrt": VersionRule.EXACT,
    "inductor": VersionRule.EXACT,
}


_AVX2 = ("avx2", "bmi1", "bmi2", "fma", "f16c", "movbe")
VECTOR_FLAGS = {"AVX2": _AVX2, "AVX512": (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")}
"""Processor flags of x86-64-v3 and x86-64-v4, for which TorchInductor compiles, by torch's name of the level."""


@dataclass(frozen=True)
class Machine:
    """What is known of a machine; empty fields are not asked about.

    Attributes:
        device: Id in the catalog.
        runtime_version: Version there of the package's runtime, if it has one alone.
        runtime_versions: Versions of runtimes there, by name; they go before `runtime_version`.
        driver_version: Version of the driver there.
        cpu_flags: Processor flags, as `/proc/cpuinfo` writes them.
    """

    device: str = ""
    runtime_version: str = ""
    driver_version: str = ""
    cpu_flags: Sequence[str] = ()
    runtime_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Judgement:
    """The answer: it can run where there is no reason against it.

    Attributes:
        reasons: Why not, a sentence each.
        checks: What was held against what and found right, and what could not be asked about, a sentence each.
    """

    reasons: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    @property
    def compatible(self) -> bool:
        """Whether it can run."""
        return not self.reasons


def judge(manifest: Manifest, machine: Machine, catalog: Catalog) -> Judgement:
    """Return whether a package can run on a machine: with all runtimes that its components compute in.

    Raises:
        EngineFailure: INVALID_SPEC for a device that is not in the catalog, which lists those that are, for a runtime
            version that cannot be read, or for one that does not say of which of the package's runtimes it is.
    """
    found = Judgement()
    if machine.device:
        _judge_device(manifest, catalog.device(machine.device), catalog, found)
    else:
        found.checks.append(f"The device was not asked about; the package is for {manifest.device}.")
    for runtime, asked in _versions(manifest, machine).items():
        _judge_version(runtime, asked, found)
    for form in manifest.forms:
        _judge_flags(manifest, form, machine, catalog, found)
    _judge_vectors(manifest, machine, found)
    _judge_driver(manifest, machine, catalog, found)
    return found


def _judge_device(manifest: Manifest, device: Device, catalog: Catalog, found: Judgement) -> None:
    built_for = catalog.devices.get(manifest.device)
    vendor_of = built_for.vendor if built_for else ""
    needed = built_for.architecture if built_for and vendor_of != "generic" else manifest.requirements.architecture
    if not needed:
        found.checks.append("The package does not say which architecture it needs.")
    elif device.architecture != needed:
        found.reasons.append(f"The package needs {needed}, and {device.id} is {device.architecture}.")
    else:
        found.checks.append(f"{device.id} is {needed}, which the package needs.")
    for name in dict.fromkeys(form.runtime.name for form in manifest.forms):
        if name in device.runtimes:
            found.checks.append(f"{device.id} has the runtime {name}.")
        else:
            found.reasons.append(f"{device.id} has no runtime {name}; it has {', '.join(sorted(device.runtimes))}.")
    for form in manifest.forms:
        runtime = device.runtimes.get(form.runtime.name)
        offered = (*runtime.precisions, *runtime.quantized) if runtime else ()
        if runtime and form.precision not in offered:
            found.reasons.append(
                f"{runtime.name} on {device.id} does not compute in {form.precision}; it offers {', '.join(offered)}."
            )


def _versions(manifest: Manifest, machine: Machine) -> dict[RuntimeEntry, str]:
    """Return the versions to ask about, by what the package was verified with."""
    runtimes = list(dict.fromkeys(form.runtime for form in manifest.forms))
    names = sorted({runtime.name for runtime in runtimes})
    foreign = sorted(machine.runtime_versions.keys() - set(names))
    if foreign or (machine.runtime_version and len(names) > 1):
        what = f"uses no {foreign[0]}" if foreign else "has several runtimes, so that one version says too little"
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The package {what}; give a version for each of {', '.join(names)}.",
            suggested_fix="Name them in `runtime_versions`, or by --runtime-version NAME=VERSION.",
        )
    return {runtime: machine.runtime_versions.get(runtime.name, machine.runtime_version) for runtime in runtimes}


def _judge_version(runtime: RuntimeEntry, asked: str, found: Judgement) -> None:
    name, verified = runtime.name, runtime.version
    if not asked:
        found.checks.append(f"The version of {name} was not asked about; the package was verified with {verified}.")
        return
    has, built = parse_version(asked), _built(verified)
    if has is None:
        raise EngineFailure(
            FailureReason.INVALID_SPEC, f"'{asked}' is no version of {name}; write it like {verified or '1.2.3'}."
        )
    if built is None:
        found.reasons.append(f"The package does not say which {name} it was verified with.")
        return
    rule = RULES.get(name, VersionRule.EXACT)
    against = f"The machine has {name} {asked}, the package was verified with {verified}"
    if has == built:
        found.checks.append(f"{against}: the same.")
    elif rule is VersionRule.EXACT:
        found.reasons.append(f"{against}, and {name} runs only what its own version has built. Build it again.")
    elif has[:2] < built[:2]:
        found.reasons.append(f"{against}: an older one may lack what the package uses. Use {verified} or a newer one.")
    elif rule is VersionRule.SAME_MAJOR and has[0] != built[0]:
        found.reasons.append(f"{against}: nothing is promised beyond major version {built[0]}.")
    elif has < built:
        found.checks.append(f"{against}: an older patch of the same minor version. It was not verified there.")
    else:
        note = " It is another major version: compare results before you rely on it." if has[0] != built[0] else ""
        found.checks.append(f"{against}: a newer one runs it, but it was not verified there.{note}")


def _judge_flags(manifest: Manifest, form: ServedForm, machine: Machine, catalog: Catalog, found: Judgement) -> None:
    # The manifest lists the flags of all components together: of several forms, the catalog says whose they are.
    needed = set(manifest.requirements.cpu_flags_any) if len(manifest.forms) == 1 else set()
    device = catalog.devices.get(manifest.device)
    runtime = device.runtimes.get(form.runtime.name) if device else None
    if not needed and runtime:
        flags = {str(precision): names for precision, names in runtime.precision_flags.items()}
        needed = set(flags.get(form.precision, ()))
    if not needed:
        found.checks.append(f"The package asks for no processor flag for {form.precision} by {form.runtime.name}.")
        return
    wanted = f"one of the processor flags {', '.join(sorted(needed))}"
    if not machine.cpu_flags:
        found.checks.append(f"Processor flags were not asked about; the package needs {wanted}.")
        return
    present = sorted(needed & {flag for entry in machine.cpu_flags for flag in entry.lower().split()})
    if present:
        found.checks.append(f"The machine has {', '.join(present[:_SHOWN_FLAGS])}; the package needs {wanted}.")
    else:
        found.reasons.append(f"The package needs {wanted} for {form.precision}; the machine has none of them.")


def _judge_vectors(manifest: Manifest, machine: Machine, found: Judgement) -> None:
    """Judge what a form was compiled for: vectors that a processor without them cannot be asked for."""
    levels = {component.options.get("cpu_capability", "") for component in manifest.components}
    needed = {flag for level in levels for flag in VECTOR_FLAGS.get(level, ())}
    if not needed:
        return
    wanted = f"all of the processor flags {', '.join(sorted(needed))}, for which it was compiled"
    if not machine.cpu_flags:
        found.checks.append(f"Processor flags were not asked about; the package needs {wanted}.")
        return
    missing = sorted(needed - {flag for entry in machine.cpu_flags for flag in entry.lower().split()})
    if missing:
        found.reasons.append(f"The package needs {wanted}; the machine lacks {', '.join(missing)}.")
    else:
        found.checks.append(f"The machine has what the package needs: {wanted}.")


def _judge_driver(manifest: Manifest, machine: Machine, catalog: Catalog, found: Judgement) -> None:
    device = catalog.devices.get(manifest.device)
    if device is not None and device.vendor == "generic":
        if machine.driver_version:
            found.checks.append(f"A package for {manifest.device} needs no driver.")
    elif machine.driver_version:
        found.checks.append(
            f"The package does not say which driver it needs: {machine.driver_version} could not be judged."
        )


def parse_version(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a version, at least three, and None where it has none: `2026.4.0-22` is (2026, 4, 0)."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while len(numbers) > 3 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers + [0] * (3 - len(numbers)))


def _built(version: str) -> tuple[int, ...] | None:
    return parse_version(version) if version else None
