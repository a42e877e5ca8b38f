"""The sources of a new dataset: files and a class mapping, or the steps of a derivation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.names import parse_pairs, template_name

if TYPE_CHECKING:
    from lathe.registry.v1.dataset_service_pb2 import ClassMapping, DerivationStep, SampleItems
    from lathe.type.v1.digest_pb2 import File
    from lathe_client.connection import Connection


def upload_paths(connection: Connection, paths: Sequence[Path]) -> list[File]:
    """Store files as they are, or all as one archive if there is a folder among them.

    Raises:
        CliError: A path does not exist, or two files have the same name.
    """
    from services.cli.output import note
    from services.cli.packing import needs_packing, pack
    from services.cli.transfers import upload_files

    if not needs_packing(paths):
        if len({path.name for path in paths}) < len(paths):
            raise CliError("Two of the files have the same name; give the folder that contains them.", ExitCode.USAGE)
        return upload_files(connection, paths)
    with tempfile.TemporaryDirectory(prefix="lathe-pack-") as folder:
        archive = Path(folder, "dataset.zip")
        note(f"packed {pack(paths, archive):,} files")
        return upload_files(connection, [archive])


def class_mapping(file: Path | None, template: str, pairs: list[str]) -> ClassMapping | None:
    """Return the mapping of a file, with the template and the `task=key` pairs of options; None if nothing is given.

    Raises:
        CliError: The file or a pair cannot be read.
    """
    from lathe.registry.v1.dataset_service_pb2 import ClassMapping, ClassMappingEntry

    from services.cli.documents import read_document

    if file is None and not template and not pairs:
        return None
    mapping = read_document(file, ClassMapping()) if file else ClassMapping()
    if template or mapping.template:
        mapping.template = template_name(template or mapping.template)
    for task, key in parse_pairs(pairs, "--map").items():
        mapping.entries.append(ClassMappingEntry(task=task, key=key))
    return mapping


def merge_step(text: str) -> DerivationStep:
    """Return the step of `KEY:A,B=INTO`."""
    from lathe.registry.v1.dataset_service_pb2 import DerivationStep, MergeClasses

    classes, equals, into = text.rpartition("=")
    key, values = _pair(
        classes, ":", f"--merge {text!r} must be KEY:CLASS,CLASS=INTO, such as label:car,truck=vehicle."
    )
    if not equals or not into:
        raise CliError(f"--merge {text!r} names no class to merge into; write KEY:CLASS,CLASS=INTO.", ExitCode.USAGE)
    return DerivationStep(merge_classes=MergeClasses(key=key, classes=values, into=into))


def drop_step(text: str) -> DerivationStep:
    """Return the step of `KEY:A,B`."""
    from lathe.registry.v1.dataset_service_pb2 import DerivationStep, DropClasses

    key, values = _pair(text, ":", f"--drop {text!r} must be KEY:CLASS,CLASS, such as label:person.")
    return DerivationStep(drop_classes=DropClasses(key=key, classes=values))


def filter_step(text: str, *, exclude: bool) -> DerivationStep:
    """Return the step of `KEY=A,B`, which keeps or drops items with these values."""
    from lathe.registry.v1.dataset_service_pb2 import DerivationStep, FilterItems

    option = "--exclude" if exclude else "--keep"
    key, values = _pair(text, "=", f"{option} {text!r} must be KEY=VALUE,VALUE, such as scene=night.")
    return DerivationStep(filter=FilterItems(key=key, values=values, exclude=exclude))


def steps_of(
    file: Path | None,
    merge: list[str],
    drop: list[str],
    keep: list[str],
    exclude: list[str],
    sample: SampleItems | None,
) -> list[DerivationStep]:
    """Return the steps of a file (`steps:`, in any order), then those of the options: merge, drop, keep, sample."""
    from lathe.registry.v1.dataset_service_pb2 import Derivation, DerivationStep

    from services.cli.documents import read_document

    return [
        *(read_document(file, Derivation()).steps if file else ()),
        *map(merge_step, merge),
        *map(drop_step, drop),
        *(filter_step(text, exclude=False) for text in keep),
        *(filter_step(text, exclude=True) for text in exclude),
        *([DerivationStep(sample=sample)] if sample else ()),
    ]


def _pair(text: str, separator: str, problem: str) -> tuple[str, list[str]]:
    key, found, values = text.partition(separator)
    if not found or not key or not values:
        raise CliError(problem, ExitCode.USAGE)
    return key, values.split(",")
