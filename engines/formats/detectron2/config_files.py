"""Looks through configurations of Detectron2: YAML that holds data alone, and builds on files of the upload alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engines.failures import EngineFailure, FailureReason
from engines.formats.detectors.uploads import LARGEST_CONFIG, base_inside, read_config, the_checkpoint, the_config

_BASE = "_BASE_"
_NO_DATA = "could not determine a constructor for "
_MOST_ENTRIES = 100_000
"""Of all mappings together. The whole configuration of Detectron2 has some hundred."""
ADVICE = (
    "Upload the whole configuration as one file: the config.yaml that training writes into OUTPUT_DIR, or what "
    "cfg.dump() returns."
)
_NO_WEIGHTS = "Upload the checkpoint (model_final.pth) together with the configuration."


@dataclass(frozen=True)
class DetectorFiles:
    """The files of a detector: its configuration, and its checkpoint."""

    config: Path
    checkpoint: Path


def is_config(path: Path) -> bool:
    """Return whether a YAML file is a configuration of Detectron2: it names a META_ARCHITECTURE, or a base."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            return False
        nodes = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return False
    if not isinstance(nodes, yaml.MappingNode):
        return False
    found = _keys(nodes)
    model = found.get("MODEL")
    inner = _keys(model) if isinstance(model, yaml.MappingNode) else {}
    return _BASE in found or "META_ARCHITECTURE" in inner


def find(root: Path, named: str = "") -> DetectorFiles:
    """Return the files of the detector in an upload, its configurations looked through.

    Args:
        root: The folder of the upload.
        named: Path of the checkpoint or of the configuration, if the upload has several.

    Raises:
        EngineFailure: INVALID_MODEL or INVALID_SPEC for files that are missing or not one of a kind; UNSAFE_MODEL, with
            the line, for a configuration that names code or builds on a file outside the upload.
    """
    configs = [path for path in sorted(root.rglob("*.y*ml")) if path.is_file() and is_config(path)]
    if not configs:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            "No file of the upload is a configuration of Detectron2: YAML with MODEL.META_ARCHITECTURE.",
            suggested_fix=ADVICE,
        )
    bases = {path: _base(path, root) for path in configs}
    checkpoint = the_checkpoint(root, named, _NO_WEIGHTS)
    config = the_config(root, [path for path in configs if path not in bases.values()], checkpoint, named)
    seen, current = set[Path](), bases.get(config)
    while current is not None and current not in seen:
        seen.add(current)
        current = bases[current] if current in bases else _base(current, root)
    return DetectorFiles(config, checkpoint)


class _Loader(yaml.SafeLoader):
    """Reads data within bounds: mappings that merge others, which merge others, grow without any limit else."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what a mapping merges into it."""
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > _MOST_ENTRIES:
            raise yaml.YAMLError(f"its mappings merge others to more than {_MOST_ENTRIES:,} entries")


def _keys(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _base(path: Path, root: Path) -> Path | None:
    """Return the file that a configuration builds on, if it does; refuse what is no data."""
    shown, text = path.relative_to(root).as_posix(), read_config(path, root)
    try:
        values: Any = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.constructor.ConstructorError as error:
        if not str(error.problem).startswith(_NO_DATA):
            raise _invalid(shown, error) from error
        where = f"{shown}:{error.problem_mark.line + 1}" if error.problem_mark else shown
        raise EngineFailure(
            FailureReason.UNSAFE_MODEL,
            f"The configuration holds something other than data, which reading would run ({where}): "
            f"{str(error.problem).removeprefix(_NO_DATA)}.",
            node=where,
            suggested_fix=ADVICE,
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _invalid(shown, error) from error
    base = values.get(_BASE) if isinstance(values, dict) else None
    if base is None:
        return None
    if not isinstance(base, str):
        raise EngineFailure(
            FailureReason.INVALID_MODEL, f"'{_BASE}' of '{shown}' must be a path.", suggested_fix=ADVICE
        )
    line = next((number for number, row in enumerate(text.splitlines(), 1) if row.lstrip().startswith(_BASE)), 0)
    return base_inside(base, path, root, line, ADVICE)


def _invalid(shown: str, error: Exception) -> EngineFailure:
    told = " ".join(str(error).split())[:300]
    return EngineFailure(FailureReason.INVALID_MODEL, f"'{shown}' is not valid YAML: {told}.", suggested_fix=ADVICE)
