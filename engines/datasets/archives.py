"""Unpacks untrusted zip, tar and tar.gz archives.

Members are written to numbered files, so no name in an archive ever becomes a path on the disk.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from engines.datasets.archive_members import StrictHeader, is_renamed, kind, safe_name, shown, zip_name
from engines.datasets.found import invalid
from engines.failures import EngineFailure, FailureReason, first_line

MAX_MEMBERS = 2_000_000
MAX_BYTES = 64 * 2**30
MAX_RATIO = 200
"""Most unpacked bytes per byte of archive, beyond `FREE_BYTES`; ordinary data does not compress to 1/200."""
FREE_BYTES = 64 * 2**20

_CHUNK = 2**20
# With any other method a few compressed bytes may expand in one step, before they can be counted.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_SPECIAL_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)

Progress = Callable[[float], None]


class BombError(EngineFailure):
    """An upload that unpacks to too much; all of it is rejected."""


class Budget:
    """The limit on how much an upload may unpack to, including nested archives of arrays."""

    def __init__(self, packed_bytes: int) -> None:
        """Set the limit for an upload of `packed_bytes`."""
        self._packed = packed_bytes
        self._bytes_left = min(MAX_BYTES, MAX_RATIO * packed_bytes + FREE_BYTES)
        self._members_left = MAX_MEMBERS

    def take(self, count: int) -> None:
        """Count unpacked bytes; raises INVALID_DATA if there are too many."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise BombError(
                FailureReason.INVALID_DATA,
                f"The upload of {self._packed:,} bytes unpacks to more than {MAX_RATIO} times its size, or to more "
                "than 64 GiB, so it is treated as a decompression bomb.",
                suggested_fix="Split the data into several datasets, or upload it with less compression.",
            )

    def member(self) -> None:
        """Count a member; raises INVALID_DATA if there are too many."""
        self._members_left -= 1
        if self._members_left < 0:
            invalid(f"The archive has more than {MAX_MEMBERS:,} members.", fix="Split the data into several datasets.")


def unpack_zip(archive: Path, folder: Path, budget: Budget, progress: Progress) -> Unpacked:
    """Unpack a zip archive and return its files.

    Raises:
        EngineFailure: INVALID_DATA if it is damaged, encrypted, unsafe or too large, or contains a file twice.
    """
    target = Unpacked(folder)
    total = archive.stat().st_size
    with _readable(archive), zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            budget.member()
            _refuse_special(member.filename, member.external_attr >> 16)
            written = zip_name(member)
            name = safe_name(written)
            if member.is_dir() or name is None:
                continue
            with open_member(opened, member, f"The archive's member '{name}'") as source:
                target.write(name, written, source, budget)
            progress(min(1.0, member.header_offset / max(1, total)))
    return target


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> IO[bytes]:
    """Open a member so that its bytes can be counted as they are unpacked.

    Raises:
        EngineFailure: INVALID_DATA if it is encrypted, or compressed with a method other than deflate.
    """
    if member.flag_bits & 0x1:
        invalid(f"{what} is encrypted.", fix="Create the archive without a password.")
    if member.compress_type not in _METHODS:
        invalid(f"{what} uses a compression method that is not supported.", fix="Use deflate or gzip.")
    return archive.open(member)


def unpack_tar(archive: Path, folder: Path, budget: Budget, progress: Progress) -> Unpacked:
    """Unpack a tar archive, gzipped or not, and return its files.

    Raises:
        EngineFailure: INVALID_DATA as for `unpack_zip`, and if the archive contains links or devices.
    """
    target = Unpacked(folder)
    total = max(1, archive.stat().st_size)
    with _readable(archive), archive.open("rb") as raw, _decompressed(raw) as source:
        metered = _Metered(source, budget)
        with tarfile.open(fileobj=cast("IO[bytes]", metered), mode="r|", tarinfo=StrictHeader) as opened:
            while (member := opened.next()) is not None:
                opened.members.clear()  # type: ignore[attr-defined]  # Otherwise it keeps every member in memory.
                budget.member()
                name = safe_name(member.name)
                if member.issparse() or not (member.isreg() or member.isdir()):
                    invalid(f"The archive's member '{shown(member.name)}' is {kind(member)}.", fix=_NO_LINKS)
                content = opened.extractfile(member) if member.isreg() and name is not None else None
                if name is not None and content is not None:
                    target.write(name, member.name, content, None)
                progress(min(1.0, raw.tell() / total))
        while metered.read(_CHUNK):
            pass  # Read to the end, where gzip verifies the checksum.
    return target


_NO_LINKS = "Pack regular files only, without links, devices or holes: use tar --dereference, without --sparse."


class Unpacked:
    """The members of an archive, each in a numbered file.

    Attributes:
        files: The files by their path in the archive.
        renamed: Paths of the files whose names contained characters that had to be escaped.
    """

    def __init__(self, folder: Path) -> None:
        """Write into `folder`."""
        self.files: dict[str, Path] = {}
        self.renamed: list[str] = []
        self._folder = folder

    def write(self, name: str, written: str, source: IO[bytes], budget: Budget | None) -> None:
        """Write a member under its safe name; `written` is its name in the archive."""
        if name in self.files:
            invalid(f"The archive contains two files named '{name}'.", fix="Pack each file only once.")
        number = len(self.files)
        path = self._folder / f"{number // 1000:04d}" / str(number)
        if number % 1000 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while chunk := source.read(_CHUNK):
                if budget is not None:
                    budget.take(len(chunk))
                file.write(chunk)
        self.files[name] = path
        if is_renamed(written):
            self.renamed.append(name)


class _Metered:
    """A stream that counts every byte against the budget."""

    def __init__(self, source: IO[bytes], budget: Budget) -> None:
        self._source = source
        self._budget = budget

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._budget.take(len(data))
        return data


@contextmanager
def _decompressed(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    magic = raw.read(2)
    raw.seek(0)
    if magic != b"\x1f\x8b":
        yield raw
        return
    with gzip.open(raw) as source:
        yield cast("IO[bytes]", source)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turn the libraries' errors for damaged archives into INVALID_DATA."""
    try:
        yield
    except UnicodeDecodeError as error:
        invalid(
            f"The archive {archive.name} has a member named {error.object!r}. The name is marked as UTF-8, but is not "
            "valid UTF-8.",
            fix="Rename the file, or create the archive with a tool that writes names in UTF-8.",
        )
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        invalid(
            f"The archive {archive.name} is damaged or incomplete.",
            evidence=first_line(error),
            fix="Test the archive with 'unzip -t' or 'tar -tf', then upload it again.",
        )
    except NotImplementedError as error:
        invalid(
            f"The archive {archive.name} uses a compression method that is not supported.",
            evidence=first_line(error),
            fix="Use deflate or gzip.",
        )


def _refuse_special(name: str, mode: int) -> None:
    kind = next((words for check, words in _SPECIAL_KINDS if check(mode)), "")
    if kind:
        invalid(f"The archive's member '{shown(name)}' is {kind}.", fix="Pack regular files only, without links.")
