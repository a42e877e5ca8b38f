"""Members of archives: their names as paths that can be read, stored and sent, and the headers of tar archives.

A name that tries to leave the archive is rejected: such an archive is malicious or broken.
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
"""Flag of a zip member whose name is marked as UTF-8; without it the name is in code page 437."""
_UNREADABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset({"\u200c", "\u200d"})
"""Allowed in names: they join emoji, and letters of some scripts."""
_DRIVE = re.compile("[A-Za-z]:")
_JUNK = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_REPACK = "Create the archive again, with paths relative to the dataset's folder."
_MAX_EXTENSION = 2**20
"""Most bytes of one extended header of a tar archive, which is read into memory."""
_EXTENSIONS = frozenset(
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)


def safe_name(written: str) -> str | None:
    """Return the name of a member as a path inside the archive, or None for a file that is not data.

    Folders of macOS, thumbnails and hidden files are not data. Control characters, and bytes that are not UTF-8 (they
    arrive as surrogates), are escaped as `%0A`, so that every name can be read, stored and sent.

    Raises:
        EngineFailure: INVALID_DATA if the name is absolute, leads outside the archive, or is not a file name.
    """
    readable = "".join(_escaped(letter) for letter in written)
    name = readable.replace("\\", "/")
    if name.startswith("/") or _DRIVE.match(name):
        invalid(f"The archive's member '{shown(readable)}' has an absolute path.", fix=_REPACK)
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        invalid(f"The archive's member '{shown(readable)}' leads outside the archive with '..'.", fix=_REPACK)
    if "\0" in written or len(name) > _MAX_NAME:
        invalid(f"The archive's member '{shown(readable)}' does not have a valid file name.", fix=_REPACK)
    if not parts or any(part in _JUNK or part.startswith(".") for part in parts):
        return None
    return "/".join(parts)


def is_renamed(written: str) -> bool:
    """Return whether `safe_name` escapes characters of a name."""
    return any(_escaped(letter) != letter for letter in written)


def zip_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name: decoded as UTF-8 if it is valid, even if it is not marked so; else as code page 437."""
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
    # A byte that is not UTF-8 arrives as a surrogate.
    errors = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", errors))


class StrictHeader(tarfile.TarInfo):
    """A strictly checked header: `tarfile` itself treats one that is damaged or cut off as the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # A block of zeros marks the end.
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"bad header: {error}") from error
        if header.type in _EXTENSIONS and header.size > _MAX_EXTENSION:
            raise tarfile.ReadError(f"an extended header of {header.size:,} bytes")
        return header


def kind(member: tarfile.TarInfo) -> str:
    """Return the kind of a member that is not a regular file, as words for a sentence."""
    if member.issym():
        return "a symbolic link"
    if member.islnk():
        return "a hard link"
    if member.issparse():
        # Its holes are not stored in the archive: a header can claim a terabyte of them.
        return "a sparse file"
    return "a device or pipe" if member.isdev() else "of an unsupported kind"
