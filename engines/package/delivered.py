"""A package as it was delivered, a folder or an archive of it, held against its provenance. Nothing is unpacked."""

from __future__ import annotations

import hashlib
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from engines.package.provenance import FILE_NAME, MAX_BYTES, Content, Provenance, ProvenanceError, read

_BLOCK = 1 << 20
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, NotImplementedError, ValueError, LookupError, OverflowError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)
"""What damaged archives raise, and archives with a password."""


class Difference(StrEnum):
    """How a file differs from what the provenance says."""

    CHANGED = "CHANGED"
    """Its bytes are others, or cannot be read."""
    MISSING = "MISSING"
    """The provenance names it, and it is not there."""
    ADDED = "ADDED"
    """It is there, and the provenance does not name it."""
    NO_FILE = "NO_FILE"
    """It is a link or a device; a package has plain files alone."""
    TWICE = "TWICE"
    """The archive holds it more than once, so that it depends on the program which one is unpacked."""


@dataclass(frozen=True)
class Finding:
    """A file that differs."""

    path: str
    difference: Difference


@dataclass(frozen=True)
class _Entry:
    """A file of a delivery: its path, its bytes if it is a plain file, and what opens it."""

    path: str
    size_bytes: int | None
    open: Callable[[], IO[bytes]]


class Delivered:
    """A delivered package. Made by `open_delivered`."""

    def __init__(self, path: Path, entries: list[_Entry]) -> None:
        """Find the provenance among the entries, at the top or in the one folder that holds the package.

        Raises:
            ProvenanceError: There is none, or it cannot be read.
        """
        found = [entry for entry in entries if PurePosixPath(entry.path).name == FILE_NAME and entry.size_bytes]
        top = min(found, key=lambda entry: entry.path.count("/"), default=None)
        if top is None or top.path.count("/") > 1:
            raise ProvenanceError(
                f"{path} has no {FILE_NAME}, so that nothing says what its files should be. Packages that Lathe "
                "makes have one from release 0.2 on: make it again, or fetch it again if the file was lost."
            )
        self._root = top.path.removesuffix(FILE_NAME)
        self._entries = entries
        self.provenance: Provenance = read(_read(path, top))

    def findings(self) -> Iterator[Finding]:
        """Yield every file that differs from what the provenance says, in the order of the paths."""
        named, seen = self.provenance.files, set[str]()
        for entry in sorted(self._entries, key=lambda entry: entry.path):
            name = entry.path.removeprefix(self._root) if entry.path.startswith(self._root) else entry.path
            inside = entry.path.startswith(self._root)
            if entry.path in seen:
                yield Finding(name, Difference.TWICE)
            elif inside and name == FILE_NAME:
                pass
            elif not inside or name not in named:
                yield Finding(name, Difference.ADDED)
            elif entry.size_bytes is None:
                yield Finding(name, Difference.NO_FILE)
            elif not _holds(entry, named[name]):
                yield Finding(name, Difference.CHANGED)
            seen.add(entry.path)
        yield from (Finding(name, Difference.MISSING) for name in sorted(named) if self._root + name not in seen)


@contextmanager
def open_delivered(path: Path) -> Iterator[Delivered]:
    """Open a package: a folder, a zip file, or a tar file, compressed or not.

    Raises:
        ProvenanceError: It is none of these, is damaged, or has no provenance.
    """
    if path.is_dir():
        yield Delivered(path, list(_folder(path)))
        return
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                yield Delivered(path, [_zipped(packed, info) for info in packed.infolist() if not info.is_dir()])
                return
        with tarfile.open(path) as tar:
            yield Delivered(path, [_tarred(tar, member) for member in tar if not member.isdir()])
    except FileNotFoundError as error:
        raise ProvenanceError(f"{path}: there is no such file or folder.") from error
    except _UNREADABLE as error:
        raise ProvenanceError(f"{path} is no folder, zip file or tar file, or is damaged: {error}.") from error


def _folder(path: Path) -> Iterator[_Entry]:
    for folder, folders, names in os.walk(path):
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in (*names, *linked):
            file = Path(folder, name)
            plain = file.is_file() and not file.is_symlink()
            inside = os.fsencode(file.relative_to(path).as_posix()).decode(errors="replace")
            yield _Entry(inside, file.stat().st_size if plain else None, partial(_opened, file))


def _opened(file: Path) -> IO[bytes]:
    return file.open("rb")


def _zipped(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Entry:
    kind = info.external_attr >> 28  # the upper bits of the mode: 0 if there is none, 8 for a plain file
    return _Entry(info.filename, info.file_size if kind in {0, 8} else None, lambda: packed.open(info))


def _tarred(tar: tarfile.TarFile, member: tarfile.TarInfo) -> _Entry:
    def opened() -> IO[bytes]:
        stream = tar.extractfile(member)
        assert stream is not None, "a plain file"
        return stream

    return _Entry(str(PurePosixPath(member.name)), member.size if member.isreg() else None, opened)


def _holds(entry: _Entry, content: Content) -> bool:
    """Return whether a file holds this; of more bytes than that none is read."""
    if entry.size_bytes != content.size_bytes:
        return False
    digest, size = hashlib.sha256(), 0
    try:
        with entry.open() as stream:
            while block := stream.read(min(_BLOCK, content.size_bytes + 1 - size)):
                digest.update(block)
                size += len(block)
    except _UNREADABLE:
        return False
    return size == content.size_bytes and digest.hexdigest() == content.sha256


def _read(path: Path, entry: _Entry) -> bytes:
    if entry.size_bytes is None or entry.size_bytes > MAX_BYTES:
        raise ProvenanceError(f"The {FILE_NAME} of {path} has more than {MAX_BYTES} bytes: Lathe did not write it.")
    try:
        with entry.open() as stream:
            return stream.read(MAX_BYTES + 1)
    except _UNREADABLE as error:
        raise ProvenanceError(f"The {FILE_NAME} of {path} cannot be read: {error}.") from error
