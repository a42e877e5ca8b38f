"""The files that a request names: their paths."""

from __future__ import annotations

from collections.abc import Sequence

from lathe.type.v1.digest_pb2 import File

from services.platform.errors import invalid_argument

# What file systems allow; workers fetch files under these names.
_MAX_PART_BYTES = 255


def check_paths(files: Sequence[File], field: str) -> None:
    """Refuse paths that cannot exist beside each other.

    Args:
        files: The files.
        field: Where the request holds them.

    Raises:
        LatheError: INVALID_ARGUMENT.
    """
    seen: set[str] = set()
    for file in files:
        if any(len(part.encode()) > _MAX_PART_BYTES for part in file.path.split("/")):
            message = f"{file.path!r} is not a usable path: a part of it is longer than {_MAX_PART_BYTES} bytes."
            raise invalid_argument(field, f"{message} Rename the file.")
        if file.path in seen:
            raise invalid_argument(field, f"Two files have the path '{file.path}'; give each its own.")
        seen.add(file.path)
    for path in seen:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder in seen:
                raise invalid_argument(field, f"'{folder}' is a file, so '{path}' cannot be in a folder of that name.")
