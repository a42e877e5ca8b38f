"""Where the files of a saved model lie."""

from __future__ import annotations

from collections.abc import Sequence

from lathe.type.v1.digest_pb2 import File

from engines.package.provenance import FILE_NAME
from services.siblings.packages import MANIFEST

MODEL_FOLDER = "model"
SOURCE_FOLDER = "source"


def laid_out(source: Sequence[File], package: Sequence[File]) -> list[File]:
    """Return every file by its path below the place of a saved model; the manifest comes last in its folder.

    The source's files keep their paths, unless one of them is in the package's folder: then all of them go under
    `source/`.

    Args:
        source: The files of the version that was optimized.
        package: The files of the recommended form, `infer.py` and the manifest among them.
    """
    collides = any(file.path.partition("/")[0] == MODEL_FOLDER for file in source)
    before = f"{SOURCE_FOLDER}/" if collides else ""
    files = [File(path=f"{before}{file.path}", digest=file.digest) for file in source]
    ordered = sorted(package, key=lambda file: (file.path == MANIFEST, file.path))
    return files + [File(path=f"{MODEL_FOLDER}/{file.path}", digest=file.digest) for file in ordered]


def provenance_of(package: Sequence[File]) -> list[File]:
    """Return the provenance of a version by its path below the place of the saved model, if it has one."""
    return [File(path=f"{MODEL_FOLDER}/{file.path}", digest=file.digest) for file in package if file.path == FILE_NAME]
