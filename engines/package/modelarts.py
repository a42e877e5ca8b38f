"""Writes a package as ModelArts leaves what it converted.

Source: the output directories of ModelArts' guide for AI engineers (2021): for Ascend chips the offline model alone,
for ARM and GPU a folder `model`, with `config.json` in it if the model computes in 8 bits.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath

from engines.package.manifest import ComponentEntry, Manifest, read_manifest
from engines.runtimes.serving import serving

LOG_NAME = "job_log.txt"
"""The file of the task's log in the directory."""
_PARAMETERS = "config.json"


def write_output(package: Path, directory: Path) -> list[str]:
    """Move the files of a package's forms to where ModelArts writes them; its other files stay.

    Files keep their names: a plan of TensorRT is `model.plan`, and no `.pb`. Each of several components has a folder.

    Returns:
        The paths written, below the directory, sorted.

    Raises:
        EngineFailure: INVALID_MODEL for a damaged package.
    """
    manifest = read_manifest(package)
    written = []
    for component in manifest.components:
        folder = PurePosixPath(serving(manifest.form_of(component).runtime.name).modelarts_folder)
        if len(manifest.components) > 1:
            folder /= component.name
        for name in component.files:
            target = folder / _inside(component, name)
            (directory / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(package / name, directory / target)
            written.append(target.as_posix())
        if manifest.quantization and component.name in manifest.quantization.components:
            target = folder / _PARAMETERS
            (directory / target).write_text(_parameters(manifest, component), encoding="utf-8")
            written.append(target.as_posix())
    return sorted(written)


def _inside(component: ComponentEntry, name: str) -> PurePosixPath:
    """Return the path of a file in the component's own folder of the package."""
    path = PurePosixPath(name)
    return path.relative_to(component.name) if path.parts[0] == component.name else path


def _parameters(manifest: Manifest, component: ComponentEntry) -> str:
    """Return what feeds a quantized model: its inputs and outputs, their preprocessing, and how it was quantized."""
    stated = component.model_dump(mode="json", include={"signature", "preprocessing"}, exclude_none=True)
    how = manifest.model_dump(mode="json", include={"precision", "quantization"}, exclude_none=True)
    return json.dumps({**stated["signature"], "preprocessing": stated["preprocessing"], **how}, indent=2) + "\n"
