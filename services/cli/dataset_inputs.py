"""What a new dataset is made from: the files, and the class mapping."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.names import parse_pairs, template_name

if TYPE_CHECKING:
    from lathe.registry.v1.dataset_service_pb2 import ClassMapping
    from lathe.type.v1.digest_pb2 import File

    from services.cli.client import Connection


def upload_paths(connection: Connection, paths: Sequence[Path]) -> list[File]:
    """Store files as they are; if there is a folder among them, all of them as one archive.

    Raises:
        CliError: A path is not there, or two files have the same name.
    """
    from services.cli.output import note
    from services.cli.packing import needs_packing, pack
    from services.cli.transfers import upload_files

    if not needs_packing(paths):
        if len({path.name for path in paths}) < len(paths):
            raise CliError("Two of the files have the same name; give the folder that holds them.", ExitCode.USAGE)
        return upload_files(connection, paths)
    with tempfile.TemporaryDirectory(prefix="lathe-pack-") as folder:
        archive = Path(folder, "dataset.zip")
        note(f"packed {pack(paths, archive):,} files")
        return upload_files(connection, [archive])


def class_mapping(file: Path | None, template: str, pairs: list[str]) -> ClassMapping | None:
    """Return the mapping of a file, with the template and the `task=key` pairs of options; None if nothing is said.

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
