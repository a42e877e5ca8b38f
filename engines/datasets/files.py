"""The files of an import by their path: those of an uploaded folder, and those inside its archives."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from engines.datasets.archive_members import safe_name
from engines.datasets.archives import Budget, Progress, unpack_tar, unpack_zip
from engines.datasets.found import invalid
from engines.spec.sniff import sniff

_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip", ".gz")
_OTHER_PACKED = (
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!", "RAR"),
)
_HEAD = 512
_KNOWN_PLAIN = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".json", ".jsonl", ".npy", ".npz"})


class Files(Mapping[str, Path]):
    """Maps the path of each file in the upload to the file on the disk."""

    def __init__(self, paths: Mapping[str, Path], budget: Budget, renamed: list[str] | None = None) -> None:
        """Take files.

        Args:
            paths: The file of each path.
            budget: Limits what is unpacked from them later.
            renamed: Paths that differ from the names in their archives.
        """
        self.renamed = renamed or []
        self._paths = paths
        self.budget = budget

    def __getitem__(self, path: str) -> Path:
        """Return the file of a path."""
        return self._paths[path]

    def __iter__(self) -> Iterator[str]:
        """Yield paths."""
        return iter(self._paths)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def find(self, name: str, near: str) -> str | None:
        """Return the path that a name in an annotation file refers to; None if no path or more than one matches.

        A name is relative to the annotation file, to the root, or to some folder. A folder whose name is part of the
        annotation file's name is preferred, for example `train2017` for `instances_train2017.json`.

        Args:
            name: The name in the annotation file.
            near: Path of the annotation file.
        """
        name = name.replace("\\", "/").lstrip("/")
        for folder in (posixpath.dirname(near), ""):
            path = posixpath.normpath(posixpath.join(folder, name))
            if path in self._paths:
                return path
        ending = f"/{posixpath.normpath(name)}"
        matches = [path for path in self._by_name[posixpath.basename(ending)] if path.endswith(ending)]
        if len(matches) > 1:
            stem = PurePosixPath(near).stem
            matches = [path for path in matches if PurePosixPath(path).parent.name in stem]
        return matches[0] if len(matches) == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            names[posixpath.basename(path)].append(path)
        return names


def gather(source: Path, scratch: Path, progress: Progress) -> Files:
    """Return the files of an upload, with archives unpacked.

    Args:
        source: A file or a folder.
        scratch: Folder in which archives are unpacked.
        progress: Receives the fraction that is done.

    Raises:
        EngineFailure: INVALID_DATA if an archive cannot be unpacked safely, or there are no files.
    """
    uploaded, size = _tree(source)
    budget = Budget(size)
    archives = {path: kind for path, file in uploaded.items() if (kind := _archive_kind(path, file))}
    paths = {path: file for path, file in uploaded.items() if path not in archives}
    renamed: list[str] = []
    for number, (path, kind) in enumerate(archives.items()):
        unpack = unpack_zip if kind == "zip" else unpack_tar

        def step(share: float, before: int = number) -> None:
            progress((before + share) / len(archives))

        inside = unpack(uploaded[path], scratch / str(number), budget, step)
        prefix = "" if len(uploaded) == 1 else f"{_without_suffix(path)}/"
        paths |= {f"{prefix}{name}": file for name, file in inside.files.items()}
        renamed += [f"{prefix}{name}" for name in inside.renamed]
    if not paths:
        invalid("The upload contains no files.", fix="Upload images with their annotations, or an NPZ of tensors.")
    return Files(paths, budget, renamed)


def _tree(source: Path) -> tuple[dict[str, Path], int]:
    """Return the regular files under a folder by their path in it, and their total size in bytes."""
    if source.is_file():
        return {source.name: source}, source.stat().st_size
    found, size = {}, 0
    for folder, _, names in os.walk(source):
        above = Path(folder).relative_to(source).as_posix()
        for file in names:
            name = safe_name(f"{above}/{file}")
            status = os.lstat(f"{folder}/{file}")
            if name is not None and stat.S_ISREG(status.st_mode):
                found[name] = Path(folder, file)
                size += status.st_size
    return dict(sorted(found.items())), size


def _archive_kind(name: str, path: Path) -> str:
    """Return "zip" or "tar" for an archive, and an empty string for any other file, including an NPZ."""
    if PurePosixPath(name).suffix.lower() in _KNOWN_PLAIN:
        return ""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "" if is_npz(path) else "zip"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "tar"
    packer = next((packer for magic, packer in _OTHER_PACKED if head.startswith(magic)), "")
    if packer:
        invalid(f"{name} is a {packer} archive, which is not supported.", fix="Pack the files as zip, tar or tar.gz.")
    if name.lower().endswith(_ARCHIVE_SUFFIXES):
        if len(head) == _HEAD and tarfile.is_tarfile(path):
            return "tar"
        invalid(f"{name} is not an archive; it looks like {sniff(path)}.", fix="Check the file and upload it again.")
    return ""


def is_npz(path: Path) -> bool:
    """Return whether a zip archive is an NPZ: it contains NumPy arrays only, all at the top level."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") and "/" not in name for name in names)


def _without_suffix(path: str) -> str:
    suffix = next((suffix for suffix in _ARCHIVE_SUFFIXES if path.lower().endswith(suffix)), "")
    return path[: len(path) - len(suffix)] if suffix else path
