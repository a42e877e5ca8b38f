"""Archives of folders for uploads: the same files give the same bytes, so that an upload can be resumed."""

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

    The content of a single folder is at the top of the archive; of several paths, each is there under its name. Hidden
    files are left out, links are followed.

    Raises:
        CliError: A path does not exist, two have the same name, or there is no file in them.
    """
    count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        seen: set[str] = set()
        for name, path in files_of(paths):
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


def files_of(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield every file of files and folders with the name under which it is uploaded: `/` between folders.

    For a single folder, names begin inside it; for several paths, each begins with its own name.

    Raises:
        CliError: A path does not exist, a name is not valid UTF-8, or a link leads to a folder that holds it.
    """
    require_there(paths)
    for name, path in _named(paths):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(name).decode(errors="replace")
            raise CliError(f"{shown}: the file name is not UTF-8; rename the file.") from error
        yield name, path


def require_there(paths: Sequence[Path]) -> None:
    """Raise CliError if a path does not exist."""
    for path in paths:
        if not path.exists():
            raise CliError(f"{path}: there is no such file or folder.")


def _named(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for path in sorted(paths):
        own = path.resolve().name if path.is_dir() else path.name  # a link to a file keeps its own name
        prefix = Path() if len(paths) == 1 and path.is_dir() else Path(own)
        if not path.is_dir():
            yield prefix.as_posix(), path
            continue
        for folder, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for link in filter(Path.is_symlink, (Path(folder, each) for each in folders)):
                if Path(folder).resolve().is_relative_to(link.resolve()):
                    raise CliError(f"{link} is a link to a folder that holds it; remove the link.")
            inside = prefix / Path(folder).relative_to(path)
            yield from (
                ((inside / each).as_posix(), Path(folder, each)) for each in sorted(files) if not each.startswith(".")
            )
