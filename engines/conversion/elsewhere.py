"""Forms that another machine has built, which was not their device: here they are compared and timed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

from engines.failures import invalid
from engines.package.manifest import read_manifest
from engines.package.opening import component_form
from engines.runtimes import BuiltForm
from engines.spec.request import ConversionRequest
from engines.spec.template import Component


def built_elsewhere(request: ConversionRequest, component: Component, workdir: Path, package: Path) -> BuiltForm | None:
    """Return a component's form of the package that another machine made, copied into `package`; None without one.

    Raises:
        EngineFailure: INVALID_MODEL if that package is damaged, or was not made of this request.
    """
    if not request.built:
        return None
    made = workdir / request.built
    manifest = read_manifest(made)
    entry = next((each for each in manifest.components if each.name == component.name), None)
    if entry is None:
        raise invalid(f"The package that another machine built has no component '{component.name}'.")
    form = component_form(made, manifest, entry)
    folder = fresh_folder(package / component.name)
    names = tuple(PurePosixPath(name).relative_to(component.name).as_posix() for name in form.files)
    for name, path in zip(names, form.files, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made / path, folder / name)
    return replace(form, directory=folder, files=names, warnings=entry.warnings or ())


def fresh_folder(folder: Path) -> Path:
    """Return a folder of a component without what was in it; builders create it."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
