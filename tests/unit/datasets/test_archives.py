"""Untrusted archives: files are unpacked, and unsafe members are rejected by name."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from engines.datasets import archives
from engines.datasets.archive_members import safe_name
from engines.datasets.dataset_import import run
from engines.datasets.files import Files, gather
from tests.unit.datasets.kit import refused, silent, tar, write, zipped


def unpacked(tmp_path: Path, content: bytes, name: str = "upload.bin") -> dict[str, bytes]:
    write(tmp_path / "in", {name: content})
    files = gather(tmp_path / "in", tmp_path / "scratch", lambda share: None)
    return {path: files[path].read_bytes() for path in files}


FILES = {"cat/1.txt": b"one", "dog/2.txt": b"two" * 100_000}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_packed_files_are_unpacked_unchanged(tmp_path: Path, kind: str) -> None:
    mode = {"tar": "w", "tar.gz": "w:gz"}.get(kind, "")
    members: list[tuple[str, bytes | None, dict[str, Any]]] = [(name, content, {}) for name, content in FILES.items()]
    content = tar(*members, mode=mode) if mode else zipped(FILES)
    assert unpacked(tmp_path, content, f"upload.{kind}") == FILES


def test_archives_among_other_files_are_unpacked_under_their_name(tmp_path: Path) -> None:
    write(tmp_path / "in", {"train.zip": zipped({"a.png": "A"}), "annotations.json": "{}"})
    assert set(gather(tmp_path / "in", tmp_path / "s", lambda share: None)) == {"train/a.png", "annotations.json"}


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "a\\..\\..\\evil.png", "/etc/passwd", "C:\\evil.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_leave_the_archive_are_rejected(tmp_path: Path, name: str, kind: str) -> None:
    content = zipped({name: "x"}) if kind == "zip" else tar((name, b"x", {}))
    with refused(name):
        unpacked(tmp_path, content)
    assert not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "symbolic link"),
        ({"type": tarfile.LNKTYPE, "linkname": "a"}, "hard link"),
        ({"type": tarfile.CHRTYPE}, "device"),
        ({"type": tarfile.FIFOTYPE}, "device or pipe"),
    ],
)
def test_links_and_devices_are_rejected(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with refused("evil", words, "regular files"):
        unpacked(tmp_path, tar(("a", b"x", {}), ("evil", None, fields)))


def test_a_symbolic_link_in_a_zip_is_rejected(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("evil")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with refused("evil", "symbolic link"):
        unpacked(tmp_path, buffer.getvalue())


def test_an_encrypted_member_is_rejected(tmp_path: Path) -> None:
    content = bytearray(zipped({"secret.png": "x"}))
    # The flag in the local header and in the directory.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with refused("secret.png", "encrypted"):
        unpacked(tmp_path, bytes(content))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_truncated_archive_is_rejected(tmp_path: Path, kind: str, share: float) -> None:
    noise = {f"{number}.bin": random.randbytes(4000) for number in range(5)}
    mode = {"tar": "w", "tar.gz": "w:gz"}.get(kind, "")
    content = tar(*((name, data, {}) for name, data in noise.items()), mode=mode) if mode else zipped(noise)
    with refused("damaged or incomplete"):
        unpacked(tmp_path, content[: int(len(content) * share) // 512 * 512 + 100], f"x.{kind}")


def test_damage_in_the_middle_is_rejected(tmp_path: Path) -> None:
    plain = bytearray(tar(("a", b"x" * 512, {}), ("b", b"y", {})))
    plain[1024:1034] = b"\xff" * 10
    with refused("damaged", "header"):
        unpacked(tmp_path, bytes(plain), "x.tar")
    packed = bytearray(tar(("a", b"x" * 5000, {}), mode="w:gz"))
    packed[-6] ^= 0xFF
    with refused("damaged"):
        unpacked(tmp_path / "gz", bytes(packed), "x.tar.gz")
    content = bytearray(zipped({"a": b"abc" * 1000}))
    content[40] ^= 0xFF
    with refused("damaged"):
        unpacked(tmp_path / "zip", bytes(content), "x.zip")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_bombs_are_rejected_before_they_fill_the_disk(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    zeros = bytes(30 * 2**20)
    content = zipped({"a.png": zeros}) if kind == "zip" else tar(("a.png", zeros, {}), mode="w:gz")
    with refused("200 times", "decompression bomb"):
        unpacked(tmp_path, content, f"x.{kind}")
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").rglob("*") if path.is_file()) < 12 * 2**20


def test_too_many_members_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    for number, content in enumerate(
        [zipped({str(n): "x" for n in range(11)}), tar(*((str(n), b"", {}) for n in range(11)))]
    ):
        with refused("more than 10 members"):
            unpacked(tmp_path / str(number), content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_are_rejected(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", "1")
        archive.writestr("./a.png", "2")
    with refused("two files named 'a.png'"):
        unpacked(tmp_path, buffer.getvalue())
    with refused("two files named 'a.png'"):
        unpacked(tmp_path / "tar", tar(("a.png", b"1", {}), ("a.png", b"2", {})))


def test_files_that_are_not_data_are_ignored(tmp_path: Path) -> None:
    junk = {"__MACOSX/._a.png": "x", ".DS_Store": "x", "d/Thumbs.db": "x", ".ipynb_checkpoints/a.png": "x"}
    assert unpacked(tmp_path, zipped({**junk, "a.png": "yes"})) == {"a.png": b"yes"}
    with refused("no files"):
        unpacked(tmp_path / "b", zipped(junk))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.zip", b"<html>no archive", "not an archive"),
        ("a.tar.gz", b"", "not an archive"),
        ("a.bin", b"7z\xbc\xaf\x27\x1c rest", "7-Zip"),
        ("a.tar.xz", b"\xfd7zXZ\x00 rest", "xz"),
        ("a.zip", b"PK\x03\x04 cut off", "damaged"),
    ],
)
def test_unsupported_archives_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with refused(words):
        unpacked(tmp_path, content, name)


def test_an_empty_upload_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with refused("no files"):
        gather(tmp_path / "in", tmp_path / "s", lambda share: None)


@pytest.mark.parametrize(
    ("name", "near", "found"),
    [
        ("a.png", "train/x.json", "train/a.png"),
        ("train/a.png", "ann/x.json", "train/a.png"),
        ("../val/b.png", "ann/x.json", "val/b.png"),
        ("c.png", "ann/x.json", "deep/er/c.png"),
        ("a.png", "ann/instances_val.json", "val/a.png"),
        ("a.png", "ann/x.json", None),
        ("none.png", "x.json", None),
        ("./val\\a.png", "x.json", "val/a.png"),
    ],
)
def test_names_of_annotation_files_find_their_image(name: str, near: str, found: str | None) -> None:
    paths = ["train/a.png", "val/a.png", "val/b.png", "deep/er/c.png"]
    files = Files({path: Path(path) for path in paths}, archives.Budget(0))
    assert files.find(name, near) == found


def sparse(name: str, size: int) -> bytes:
    """A tar archive whose one member claims `size` bytes and has none: the rest is a hole."""
    header = bytearray(tarfile.TarInfo(name).tobuf(format=tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:398], header[398:410], header[483:495] = b"%011o\0" % size, b"%011o\0" % 0, b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def test_sparse_files_are_rejected(tmp_path: Path) -> None:
    with refused("'a.png' is a sparse file", "--sparse"):
        unpacked(tmp_path, sparse("a.png", 2**32))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize(("upload", "name"), [("d.zip", "a.png"), ("d.npz", "a.npy")])
def test_other_compression_methods_are_rejected(tmp_path: Path, method: int, upload: str, name: str) -> None:
    # Half a gigabyte from 4 KiB, before the budget could count a byte.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, bytes(10_000))
    write(tmp_path / "files", {upload: buffer.getvalue()})
    with refused("compression method that is not supported"):
        run({"folder": "files"}, tmp_path, silent())


def test_a_long_extended_header_is_rejected(tmp_path: Path) -> None:
    packed = tar(("a.png", b"x", {"pax_headers": {"comment": "c" * 2**21}}))
    with refused("damaged"):
        unpacked(tmp_path, packed)


def test_a_colon_does_not_make_a_path_absolute(tmp_path: Path) -> None:
    assert unpacked(tmp_path, zipped({"3:1.txt": "x"})) == {"3:1.txt": b"x"}
    with refused("absolute"):
        safe_name("c:1.txt")
