"""Names of the members of archives, as paths that can be read, stored and sent.

A name that tries to leave the archive is refused: an archive that holds one was made to do harm or is broken.
"""

from __future__ import annotations

import re
import tarfile
import unicodedata
import zipfile
from typing import Self

from engines.datasets.found import invalid

_MAX_NAME = 4096
_UTF8 = 0x800
"""Flag of a zip member whose name is marked as UTF-8; otherwise it is of code page 437."""
_UNREADABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset({"\u200c", "\u200d"})
"""Part of honest names: they join emoji, and letters of some scripts."""
_DRIVE = re.compile("[A-Za-z]:")
_JUNK = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_REPACK = "Pack the files again, with paths relative to the dataset's folder."
_MAX_EXTENSION = 2**20
"""Bytes of one extended header of a tar archive: it is read whole."""
_EXTENSIONS = frozenset(
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)


def safe_name(written: str) -> str | None:
    """Return the name of a member as a path inside the archive, or None for what no dataset means.

    Folders of macOS, thumbnails and hidden files mean nothing. Control characters, and bytes that are not UTF-8 (which
    come as surrogates), are written as `%0A`, so that every name can be read, stored and sent.

    Raises:
        EngineFailure: INVALID_DATA if the name is absolute, leads outside, or is no name.
    """
    readable = "".join(_escaped(letter) for letter in written)
    name = readable.replace("\\", "/")
    if name.startswith("/") or _DRIVE.match(name):
        invalid(f"The archive's member '{shown(readable)}' has an absolute path.", fix=_REPACK)
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        invalid(f"The archive's member '{shown(readable)}' leads outside the archive with '..'.", fix=_REPACK)
    if "\0" in written or len(name) > _MAX_NAME:
        invalid(f"The archive's member '{shown(readable)}' has a name that is not a file name.", fix=_REPACK)
    if not parts or any(part in _JUNK or part.startswith(".") for part in parts):
        return None
    return "/".join(parts)


def is_renamed(written: str) -> bool:
    """Say whether `safe_name` writes characters of a name otherwise."""
    return any(_escaped(letter) != letter for letter in written)


def zip_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name: one that is not marked as UTF-8 may be all the same; else it is of code page 437."""
    if member.flag_bits & _UTF8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode()
    except UnicodeError:
        return member.filename


def shown(name: str) -> str:
    """Return a name for a message."""
    return name.replace("\0", "\\0")[:200]


def _escaped(letter: str) -> str:
    if unicodedata.category(letter) not in _UNREADABLE or letter in _JOINERS:
        return letter
    # A byte that is not UTF-8 comes as a surrogate of its own.
    errors = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", errors))


class StrictHeader(tarfile.TarInfo):
    """A header that has to be right: `tarfile` takes one that is damaged, cut off or missing for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # A block of zeros: the end.
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"bad header: {error}") from error
        if header.type in _EXTENSIONS and header.size > _MAX_EXTENSION:
            raise tarfile.ReadError(f"an extended header of {header.size:,} bytes")
        return header


def kind(member: tarfile.TarInfo) -> str:
    """Return what a member that is no plain file is, for a sentence."""
    if member.issym():
        return "a symbolic link"
    if member.islnk():
        return "a hard link"
    if member.issparse():
        # Its holes are bytes that are not in the archive: a terabyte of them costs nothing to claim.
        return "a sparse file"
    return "a device or pipe" if member.isdev() else "of a kind that is not taken"
