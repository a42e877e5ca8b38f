"""Headers of tar archives: what is wrong with one, and what its member is."""

from __future__ import annotations

import tarfile
from typing import Self

_MAX_EXTENSION = 2**20
"""Bytes of one extended header of a tar archive: it is read whole."""
_EXTENSIONS = frozenset(
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)


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
