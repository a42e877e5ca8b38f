"""The request of a conversion: the JSON form of `lathe.internal.v1.ConversionWork`, read and checked.

Protobuf writes 64-bit integers as strings and omits defaults; numbers are read as well.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from engines.failures import InvalidField, invalid_field
from engines.spec.devices import Device, DeviceRuntime, load_catalog
from engines.spec.targets import conversion_target
from engines.spec.template import Component, Template


class WorkArchitecture(BaseModel, frozen=True):
    """An architecture as a worker uses it."""

    name: str = ""
    class_name: str
    function: str
    source_path: str
    config: str = ""
    digest: str = ""


class WorkInput(BaseModel, frozen=True):
    """One file in the work directory."""

    path: str


class ConversionRequest(BaseModel, frozen=True):
    """The request of a conversion, complete."""

    inputs: tuple[WorkInput, ...] = ()
    template: Template
    architectures: dict[str, WorkArchitecture] = Field(default_factory=dict)
    samples_path: str = ""
    seed: int = 0
    parity_waivers: dict[str, str] = Field(default_factory=dict)
    source_digest: str = ""
    tensor_information: str = ""
    built: str = ""
    """Folder in the work directory with the package that another machine, not the device, has made of this request."""

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Return the request of a JSON form, checked as far as that needs no file.

        Raises:
            EngineFailure: INVALID_SPEC naming the field; UNSUPPORTED_PRECISION naming the runtimes that offer it.
        """
        try:
            request = cls.model_validate(values)
        except ValidationError as error:
            raise invalid_field(error) from error
        request._check()
        return request

    def runtime(self) -> DeviceRuntime:
        """Return the catalog's entry of the runtime.

        Raises:
            EngineFailure: INVALID_SPEC if the device or its runtime is unknown, TOOLCHAIN_UNAVAILABLE if this release
                has no builder for it.
        """
        return load_catalog().device(self.template.device).runtime(self.template.runtime)

    @property
    def target(self) -> Device:
        """The device of the package."""
        return load_catalog().device(self.template.device)

    def is_first(self, component: Component) -> bool:
        """Return whether a component is the first, whose samples need no prefix."""
        return self.template.components[0].name == component.name

    def _check(self) -> None:
        template = self.template
        conversion_target(template.device, template.runtime, template.arithmetic)
        names = [component.name for component in template.components]
        if len(set(names)) != len(names):
            raise InvalidField("template.components", f"component names are unique, but these are {', '.join(names)}")
        check_waivers(self.parity_waivers, names)
        for component in template.components:
            try:
                component.check()
            except InvalidField as failure:
                raise failure.under(f"template.components.{component.name}") from None


def check_waivers(waivers: Collection[str], components: Collection[str]) -> None:
    """Refuse parity waivers for components that do not exist; InvalidField with the field `parity_waivers`."""
    unknown = ", ".join(f"'{name}'" for name in sorted(set(waivers).difference(components)))
    if unknown:
        raise InvalidField(
            "parity_waivers", f"no component is named {unknown}; the template has {', '.join(components)}"
        )
