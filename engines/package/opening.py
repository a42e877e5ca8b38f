"""Opens components of a package, each in its own runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import ComponentEntry, Manifest, ServedForm, read_manifest
from engines.runtimes import BuiltForm, Session, open_form
from engines.tensors import Array


@dataclass(frozen=True)
class OpenedComponent:
    """One component of a package, ready to run; a context manager that closes it.

    Attributes:
        manifest: The package's manifest.
        component: The component.
        session: The component, open in its runtime; it is closed with the component.
        form: Its runtime and precision.
        max_batch: Most samples of one call.
        size_bytes: Size of the component's files.
    """

    manifest: Manifest
    component: ComponentEntry
    session: Session
    form: ServedForm
    max_batch: int
    size_bytes: int

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output by name."""
        return self.session.run(inputs)

    def __enter__(self) -> Self:
        """Return the component."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the session."""
        self.session.close()

    def component_dict(self) -> dict[str, Any]:
        """Return the component as `manifest.json` has it."""
        return self.component.model_dump(mode="json", exclude_none=True)

    def taxonomies(self) -> list[dict[str, Any]]:
        """Return the classes of each classification task, as `manifest.json` has them."""
        return [entry.model_dump(mode="json") for entry in self.manifest.taxonomies]


def open_component(directory: Path, name: str | None, threads: int) -> OpenedComponent:
    """Open a component of the package in a directory; the first if no name is given.

    Raises:
        EngineFailure: INVALID_MODEL if the package is damaged, INVALID_SPEC if it has no such component, and what the
            runtime raises.
    """
    manifest = read_manifest(directory)
    entries = {entry.name: entry for entry in manifest.components}
    if name is not None and name not in entries:
        message = f"The package has no component '{name}'; it has {', '.join(entries)}."
        raise EngineFailure(FailureReason.INVALID_SPEC, message)
    entry = entries[name or next(iter(entries))]
    session = component_session(directory, manifest, entry, threads)
    size = sum((directory / name).stat().st_size for name in entry.files)
    return OpenedComponent(manifest, entry, session, manifest.form_of(entry), entry.max_batch, size)


def component_session(directory: Path, manifest: Manifest, component: ComponentEntry, threads: int) -> Session:
    """Return a session of a component in its own runtime.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE if its runtime is not here, and what the runtime raises.
    """
    return open_form(component_form(directory, manifest, component), threads)


def component_form(directory: Path, manifest: Manifest, component: ComponentEntry) -> BuiltForm:
    """Return a component as the form that was built."""
    served = manifest.form_of(component)
    files = (component.entry, *(name for name in component.files if name != component.entry))
    outputs = tuple(output.name for output in component.signature.outputs)
    return BuiltForm(
        served.runtime.name, manifest.device, served.precision, directory, files, outputs, dict(component.options)
    )
