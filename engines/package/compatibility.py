"""Says whether a package can run on a machine, by its manifest, the catalog of devices and the rooms of its runtimes.

A package was verified with one version of each runtime. The `VersionRule` in each runtime's `serving.py` says how far
another version may be from it, by what the vendor promises. Under NEWER and SAME_MAJOR an older minor version is
refused, because it may lack operators that the package uses; an older patch of the same minor version is not. The
checks name every difference from what was verified, even if the package may run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import ComponentEntry, Manifest, RuntimeEntry, ServedForm
from engines.parity.report import Verdict
from engines.runtimes.serving import VersionRule, serving
from engines.spec.devices import Catalog, Device

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,5})(?:[-+_].*|\.?(?:a|b|rc|dev|post)\d.*)?")
_SHOWN_FLAGS = 8
_STRICTEST = (VersionRule.EXACT, VersionRule.SAME_MAJOR, VersionRule.NEWER)


@dataclass(frozen=True)
class Machine:
    """The known properties of a machine; empty fields are not checked.

    Attributes:
        device: Id in the catalog.
        runtime_version: Version of the package's runtime, if the package has only one runtime.
        runtime_versions: Versions of runtimes, by name; they take precedence over `runtime_version`.
        driver_version: Version of the driver.
        cpu_flags: Processor flags, as `/proc/cpuinfo` writes them.
    """

    device: str = ""
    runtime_version: str = ""
    driver_version: str = ""
    cpu_flags: Sequence[str] = ()
    runtime_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Judgement:
    """The answer: the package can run if there is no reason against it.

    Attributes:
        reasons: Why not, a sentence each.
        checks: The checks that passed or could not be made, a sentence each.
    """

    reasons: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    @property
    def compatible(self) -> bool:
        """Whether it can run."""
        return not self.reasons


def judge(manifest: Manifest, machine: Machine, catalog: Catalog) -> Judgement:
    """Return whether a package can run on a machine: every component in its own runtime.

    Raises:
        EngineFailure: INVALID_SPEC for a device that is not in the catalog, which lists those that are, for a runtime
            version that cannot be read, or for one that does not say which of the package's runtimes it is of.
    """
    found = Judgement()
    if machine.device:
        _judge_device(manifest, catalog.device(machine.device), catalog, found)
    else:
        found.checks.append(f"No device was given; the package is for {manifest.device}.")
    for runtime, given in _versions(manifest, machine).items():
        entries = _served_by(manifest, runtime)
        rules = [_version_rule(runtime.name, entry) for entry in entries]
        unseen = any(entry.parity.get("verdict") == Verdict.UNVERIFIED for entry in entries)
        who_was_with = f"{_who(manifest, runtime)} was {'made' if unseen else 'verified'} with"
        _judge_version(runtime, given, who_was_with, min(rules, key=_STRICTEST.index), found)
    for form in manifest.forms:
        _judge_flags(manifest, form, machine, catalog, found)
    for component in manifest.components:
        _judge_vectors(manifest, component, machine, found)
        if component.parity.get("verdict") == Verdict.UNVERIFIED:
            found.checks.append(f"Component '{component.name}' is UNVERIFIED: nobody has seen it compute.")
    _judge_driver(manifest, machine, catalog, found)
    return found


def _who(manifest: Manifest, computes_in: ServedForm | RuntimeEntry | str) -> str:
    """Return who computes in a form, a runtime or a runtime of that name: the components, by name.

    It is `the package` if all components compute in one form.
    """
    if len(manifest.forms) == 1:
        return "the package"
    forms = {f"'{entry.name}'": manifest.form_of(entry) for entry in manifest.components}
    names = [name for name, form in forms.items() if computes_in in {form, form.runtime, form.runtime.name}]
    return f"each of the components {', '.join(names)}" if len(names) > 1 else f"component {names[0]}"


def _judge_device(manifest: Manifest, device: Device, catalog: Catalog, found: Judgement) -> None:
    built_for = catalog.devices.get(manifest.device)
    accelerator = built_for if built_for and built_for.is_accelerator else None
    needed = accelerator.architecture if accelerator else manifest.requirements.architecture
    if not needed:
        found.checks.append("The package does not say which architecture it needs.")
    elif device.architecture != needed and not _runs_also_on(manifest, device.architecture):
        found.reasons.append(f"The package needs {needed}, and {device.id} is {device.architecture}.")
    else:
        which = (
            "which the package needs"
            if device.architecture == needed
            else f"for which the package was built beside {needed}"
        )
        found.checks.append(f"{device.id} is {device.architecture}, {which}.")
        if built_for and built_for.product != device.product:
            found.checks.append(
                f"{device.id} is another chip than {built_for.id}, for which the package was made: it was neither "
                "verified nor timed there."
            )
    for name in dict.fromkeys(form.runtime.name for form in manifest.forms):
        who = _who(manifest, name)
        if name in device.runtimes:
            found.checks.append(f"{device.id} has the runtime {name}, which {who} needs.")
        else:
            having = ", ".join(sorted(device.runtimes))
            found.reasons.append(f"{device.id} has no runtime {name}, which {who} needs; it has {having}.")
    for form in manifest.forms:
        runtime = device.runtimes.get(form.runtime.name)
        offered = (*runtime.precisions, *runtime.quantized) if runtime else ()
        if runtime and form.precision not in offered:
            who = "" if len(manifest.forms) == 1 else f", which {_who(manifest, form)} needs"
            found.reasons.append(
                f"{runtime.name} on {device.id} does not compute in {form.precision}{who}; it offers "
                f"{', '.join(offered)}."
            )


def _runs_also_on(manifest: Manifest, architecture: str) -> bool:
    """Return whether every component runs on an architecture that the package was not built for."""
    return all(
        serving(manifest.form_of(entry).runtime.name).also_on(entry.options, architecture)
        for entry in manifest.components
    )


def _served_by(manifest: Manifest, runtime: RuntimeEntry) -> list[ComponentEntry]:
    return [entry for entry in manifest.components if manifest.form_of(entry).runtime == runtime]


def _version_rule(runtime: str, component: ComponentEntry) -> VersionRule:
    stated = serving(runtime)
    return stated.versions_of(component.options) or stated.versions


def _versions(manifest: Manifest, machine: Machine) -> dict[RuntimeEntry, str]:
    """Return the version that the machine has of each runtime; empty if it was not given."""
    runtimes = list(dict.fromkeys(form.runtime for form in manifest.forms))
    names = sorted({runtime.name for runtime in runtimes})
    foreign = sorted(machine.runtime_versions.keys() - set(names))
    if foreign or (machine.runtime_version and len(names) > 1):
        what = f"does not use {foreign[0]}" if foreign else "has several runtimes, so one version is not enough"
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The package {what}; give a version for each of {', '.join(names)}.",
            suggested_fix="Name them in `runtime_versions`, or by --runtime-version NAME=VERSION.",
        )
    return {runtime: machine.runtime_versions.get(runtime.name, machine.runtime_version) for runtime in runtimes}


def _judge_version(runtime: RuntimeEntry, given: str, who_was_with: str, rule: VersionRule, found: Judgement) -> None:
    name, verified = runtime.name, runtime.version
    if not given:
        found.checks.append(f"No version of {name} was given; {who_was_with} {verified}.")
        return
    has, built = parse_version(given), parse_version(verified)
    if has is None:
        raise EngineFailure(
            FailureReason.INVALID_SPEC, f"'{given}' is not a version of {name}; write it like {verified or '1.2.3'}."
        )
    if built is None:
        found.reasons.append(f"The manifest does not say which {name} {who_was_with}.")
        return
    against = f"The machine has {name} {given}, {who_was_with} {verified}"
    if has == built:
        found.checks.append(f"{against}: the same.")
    elif rule is VersionRule.EXACT:
        found.reasons.append(f"{against}, and {name} runs only what its own version has built. Build it again.")
    elif has[:2] < built[:2]:
        found.reasons.append(f"{against}: an older version may lack operators. Use {verified} or a newer one.")
    elif rule is VersionRule.SAME_MAJOR and has[0] != built[0]:
        found.reasons.append(f"{against}: its vendor promises nothing beyond major version {built[0]}.")
    elif has < built:
        found.checks.append(f"{against}: an older patch of the same minor version. It was not verified there.")
    else:
        note = " It is another major version: compare results before you rely on it." if has[0] != built[0] else ""
        found.checks.append(f"{against}: a newer version runs it, but it was not verified there.{note}")


def _judge_flags(manifest: Manifest, form: ServedForm, machine: Machine, catalog: Catalog, found: Judgement) -> None:
    # The manifest lists the flags of all components together; with several forms, the catalog tells them apart.
    needed = set(manifest.requirements.cpu_flags_any) if len(manifest.forms) == 1 else set()
    device = catalog.devices.get(manifest.device)
    runtime = device.runtimes.get(form.runtime.name) if device else None
    if not needed and runtime:
        flags = {str(precision): names for precision, names in runtime.precision_flags.items()}
        needed = set(flags.get(form.precision, ()))
    who = _who(manifest, form)
    if not needed:
        found.checks.append(f"{_cap(who)} needs no processor flag for {form.precision} by {form.runtime.name}.")
        return
    wanted = f"one of the processor flags {', '.join(sorted(needed))}"
    if not machine.cpu_flags:
        found.checks.append(f"No processor flags were given; {who} needs {wanted}.")
        return
    present = sorted(needed & _flags_of(machine))
    if present:
        found.checks.append(f"The machine has {', '.join(present[:_SHOWN_FLAGS])}; {who} needs {wanted}.")
    else:
        found.reasons.append(f"{_cap(who)} needs {wanted} for {form.precision}; the machine has none of them.")


def _judge_vectors(manifest: Manifest, component: ComponentEntry, machine: Machine, found: Judgement) -> None:
    """Judge what a form was compiled for: all of its processor flags have to be there."""
    form = manifest.form_of(component)
    needed = serving(form.runtime.name).flags(component.options)
    if not needed:
        return
    who = f"component '{component.name}'" if len(manifest.components) > 1 else "the package"
    wanted = f"all of the processor flags {', '.join(sorted(needed))}, for which it was compiled"
    missing = sorted(needed - _flags_of(machine))
    if not machine.cpu_flags:
        found.checks.append(f"No processor flags were given; {who} needs {wanted}.")
    elif missing:
        found.reasons.append(f"{_cap(who)} needs {wanted}; the machine lacks {', '.join(missing)}.")
    else:
        found.checks.append(f"The machine has what {who} needs: {wanted}.")


def _flags_of(machine: Machine) -> set[str]:
    return {flag for entry in machine.cpu_flags for flag in entry.lower().split()}


def _judge_driver(manifest: Manifest, machine: Machine, catalog: Catalog, found: Judgement) -> None:
    device = catalog.devices.get(manifest.device)
    if device is not None and device.vendor == "generic":
        if machine.driver_version:
            found.checks.append(f"A package for {manifest.device} needs no driver.")
    elif machine.driver_version:
        found.checks.append(
            f"The package does not say which driver it needs: {machine.driver_version} could not be judged."
        )


def _cap(words: str) -> str:
    return words[:1].upper() + words[1:]


def parse_version(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a version, at least three; None if it is not one: `2026.4.0-22` is (2026, 4, 0)."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while len(numbers) > 3 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers + [0] * (3 - len(numbers)))
