"""The catalog of devices, read from `devices.yaml`: what each can run, in which precisions, built by which tools."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engines.failures import FailureReason, InvalidField

Precision = Literal["FP32", "FP16", "BF16", "INT8", "INT4"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Toleration(_Entry):
    """A taint that a pod bears, as Kubernetes writes it."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class WorkerPod(_Entry):
    """What the pod of a device's worker needs.

    Attributes:
        image: Role of its image: `cpu` for `lathe-worker-cpu`.
        node_selector: Labels of its nodes.
        builders: Labels of other nodes, for kinds of tasks that need not run what they build; the same nodes if empty.
        tolerations: Taints of its nodes that it bears.
        resources: Extended resources, by name: `{"nvidia.com/gpu": "1"}`.
    """

    image: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    node_selector: dict[str, str]
    builders: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    resources: dict[str, str] = {}


class DeviceRuntime(_Entry):
    """A runtime on a device.

    Attributes:
        name: Name of the runtime: `openvino`.
        precisions: Precisions of conversions, on the best processor of this kind.
        quantized: Precisions of quantizations.
        computes: What a precision is computed in, if that is another one: `{"FP16": "FP32"}` if values are stored in
            half precision and there is no arithmetic for it.
        beside_integers: What a quantized form computes in besides integers.
        toolchain: What must be installed to build for it: pip requirements, and the names of vendors' toolkits.
        built: The place where its forms are built; empty if this release has no builder.
        emulator: What runs its forms if there is no such device, for parity alone; empty if nothing does.
        precision_flags: Processor flags of which one must be present for a precision.
        sources: Names of the catalog's sources, each with the claims that stand on it: precisions, and `toolchain`.
    """

    name: str
    precisions: tuple[Precision, ...]
    toolchain: tuple[str, ...]
    quantized: tuple[Precision, ...] = ()
    computes: dict[Precision, Precision] = {}
    beside_integers: Literal["FP32", "FP16"] = "FP32"
    built: Literal["", "here", "anywhere", "on the device"] = ""
    emulator: str = ""
    precision_flags: dict[Precision, tuple[str, ...]] = {}
    sources: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _check_precisions(self) -> Self:
        offered = {*self.precisions, *self.quantized}
        named = {*self.computes, *self.precision_flags}
        if set(self.precisions) & set(self.quantized) or named - offered:
            raise ValueError("a precision is converted to or quantized to, and flags are of one that is offered")
        return self

    def precisions_on(self, flags: Collection[str]) -> tuple[Precision, ...]:
        """Return what a conversion can be asked for on a processor with these flags."""
        return tuple(precision for precision in self.precisions if _any_of(self.precision_flags.get(precision), flags))

    def all_precisions_on(self, flags: Collection[str]) -> tuple[Precision, ...]:
        """Return what a conversion or a quantization can be asked for on a processor with these flags."""
        return (*self.precisions_on(flags), *self.quantized)


def _any_of(wanted: Collection[str] | None, flags: Collection[str]) -> bool:
    return not wanted or not set(wanted).isdisjoint(flags)


class Device(_Entry):
    """A kind of hardware.

    Attributes:
        id: Kebab-case name: `cpu-x86-64`.
        vendor: Who makes it; `generic` for any CPU.
        description: One line for people.
        architecture: Its name for builders: `x86_64`, `sm_75`, `Ascend310P3`.
        product: Word in the driver's name for it that tells it from other chips of its architecture; empty for a CPU.
        runtimes: Runtimes by name.
        device_files: Patterns of the files by which a program uses it: `/dev/nvidia*`; the sandbox admits no other's.
        pod: What a worker's pod needs.
        memory_limit_bytes: Memory that a task may take unless it states another limit.
        timeout_seconds: Time that one attempt may take unless the task states another limit.
        sources: Names of the catalog's sources, each with the claims that stand on it: `architecture`, `pod`, `limits`.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)]
    vendor: str
    description: str
    architecture: str
    product: str = ""
    runtimes: dict[str, DeviceRuntime]
    pod: WorkerPod
    memory_limit_bytes: Annotated[int, Field(gt=0)]
    timeout_seconds: Annotated[int, Field(gt=0)]
    device_files: tuple[str, ...] = ()
    sources: dict[str, tuple[str, ...]] = {}

    @field_validator("runtimes", mode="before")
    @classmethod
    def _name_runtimes(cls, runtimes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: {"name": name, **values} for name, values in runtimes.items()}

    def runtime(self, name: str) -> DeviceRuntime:
        """Return the runtime that this release can build for.

        Raises:
            InvalidField: INVALID_SPEC if the device has no such runtime, TOOLCHAIN_UNAVAILABLE if this release has no
                builder for it.
        """
        runtime = self.runtimes.get(name)
        if runtime is None:
            known = ", ".join(sorted(self.runtimes))
            raise InvalidField("runtime", f"{self.id} has no runtime '{name}'; it has {known}", code="UNKNOWN_RUNTIME")
        if not runtime.built:
            buildable = ", ".join(sorted(self.buildable_runtimes)) or "none"
            raise InvalidField(
                "runtime",
                f"this release has no builder for '{name}' on '{self.id}'; it can build there: {buildable}",
                code="UNKNOWN_RUNTIME",
                reason=FailureReason.TOOLCHAIN_UNAVAILABLE,
            )
        return runtime

    @property
    def is_accelerator(self) -> bool:
        """Whether forms compute on an accelerator, not on the host's processor."""
        return self.vendor != "generic"

    @property
    def buildable_runtimes(self) -> dict[str, DeviceRuntime]:
        """Runtimes that this release has a builder for."""
        return {name: runtime for name, runtime in self.runtimes.items() if runtime.built}


class Catalog(_Entry):
    """Every device, by id, and what the claims of the entries stand on, by name."""

    devices: dict[str, Device]
    sources: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _name_devices(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "devices": {name: {"id": name, **entry} for name, entry in values["devices"].items()}}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the catalog of a YAML text: its devices by id, and `sources`."""
        entries = yaml.safe_load(text)
        return cls.model_validate({"sources": entries.pop("sources", {}), "devices": entries})

    def evidence(self, entry: Device | DeviceRuntime) -> dict[str, str]:
        """Return what each claim of an entry stands on, in words, by claim."""
        words: dict[str, list[str]] = {}
        for source, claims in entry.sources.items():
            for claim in claims:
                words.setdefault(claim, []).append(self.sources[source])
        return {claim: "; ".join(found) for claim, found in words.items()}

    def device(self, name: str) -> Device:
        """Return a device.

        Raises:
            InvalidField: The catalog has no such device.
        """
        if name not in self.devices:
            known = ", ".join(self.devices)
            raise InvalidField("device", f"there is no device '{name}'; there are {known}", code="UNKNOWN_DEVICE")
        return self.devices[name]


@functools.cache
def load_catalog() -> Catalog:
    """Return the catalog that comes with the library."""
    return Catalog.parse(importlib.resources.files("engines.spec").joinpath("devices.yaml").read_text(encoding="utf-8"))
