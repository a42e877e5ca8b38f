"""Folders as one archive for an upload: the same files give the same bytes, so that an upload can be resumed."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError

_TIME = (1980, 1, 1, 0, 0, 0)


def needs_packing(paths: Sequence[Path]) -> bool:
    """Return whether the paths cannot be uploaded one by one: there is a folder among them."""
    return any(path.is_dir() for path in paths)


def pack(paths: Sequence[Path], archive: Path) -> int:
    """Write files and folders into an uncompressed zip file, and return the number of files.

    What is inside a single folder lies at the top of the archive; of several paths, each lies there under its name.
    Hidden files are left out, links are followed.

    Raises:
        CliError: A path is not there, two have the same name, or there is no file in them.
    """
    count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        seen: set[str] = set()
        for name, path in _files(paths):
            if name in seen:
                raise CliError(f"Two of the paths hold a '{name}'; give one folder that holds all.", ExitCode.USAGE)
            seen.add(name)
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, packed.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            count += 1
    if not count:
        raise CliError(f"{', '.join(map(str, paths))}: there are no files.", ExitCode.USAGE)
    return count


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for path in sorted(paths):
        if not path.exists():
            raise CliError(f"{path}: there is no such file or folder.")
        prefix = Path() if len(paths) == 1 and path.is_dir() else Path(path.resolve().name)
        if not path.is_dir():
            yield prefix.as_posix(), path
            continue
        for folder, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            inside = prefix / Path(folder).relative_to(path)
            yield from (
                ((inside / each).as_posix(), Path(folder, each)) for each in sorted(files) if not each.startswith(".")
            )
