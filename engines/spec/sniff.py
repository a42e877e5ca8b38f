"""Recognizes files by their first bytes, for messages about files in another format than expected."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path

_HEAD = 4096
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras or older TensorFlow weights)"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"BZh", "a bzip2 file; unpack it first"),
    (b"\xfd7zXZ\x00", "an xz file; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a Linux program or library"),
    (b"MZ", "a Windows program"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself; run 'git lfs pull' first"),
)
_PICKLE_PROTOCOLS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


def sniff(path: Path) -> str:
    """Return what the file looks like, as words that fit after "it looks like"."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "an empty file"
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    guesses = (_by_magic(head), _text(head), _safetensors(head, path), _pickle(head), _protobuf(head))
    return next(filter(None, guesses), "nothing that Lathe knows")


def _by_magic(head: bytes) -> str:
    if not any(head):
        return "a file of zeros; the upload or copy was interrupted"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    return next((words for magic, words in _MAGIC if head.startswith(magic)), "")


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a truncated zip archive: its end is missing"
    inner = {name.partition("/")[2] for name in names}
    marks = (
        ("constants.pkl" in inner, "a TorchScript archive"),
        (not inner.isdisjoint({"serialized_exported_program.json", "archive_format"}), "a torch.export program"),
        ("data.pkl" in inner, "a file of torch.save"),
        (any(name.endswith(".npy") for name in names), "a NumPy archive (.npz)"),
        ("model.weights.h5" in names, "a Keras model"),
    )
    return next((words for found, words in marks if found), "a zip archive")


def _text(head: bytes) -> str:
    start = head.lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, perhaps an error page saved in place of the file"
    if start.startswith(b"<?xml"):
        return "an XML document"
    text = head.decode("utf-8", errors="replace").rstrip("\ufffd")
    if not all(char.isprintable() or char in "\r\n\t" for char in text) or "\ufffd" in text or _pickle(head):
        return ""
    return "a JSON document" if start.startswith((b"{", b"[")) else "a text file"


def _safetensors(head: bytes, path: Path) -> str:
    length = int.from_bytes(head[:8], "little")
    return "a safetensors file" if head[8:9] == b"{" and 2 <= length <= path.stat().st_size else ""


def _pickle(head: bytes) -> str:
    if head.startswith(_PICKLE_PROTOCOLS):
        return "a Python pickle"
    try:
        last = ""
        for opcode, _, _ in pickletools.genops(io.BytesIO(head)):
            last = opcode.name
    except Exception:
        return ""
    return "a Python pickle" if last == "STOP" else ""


def _protobuf(head: bytes) -> str:
    """Recognise a ModelProto by its first field, `ir_version`, and any other message by a plausible first tag."""
    if head[:3] == b"\x08\x01\x12":  # version 1, then a graph
        return "a TensorFlow SavedModel's graph"
    if len(head) > 1 and head[0] == 0x08 and 1 <= head[1] < 32:
        return "an ONNX model"
    field, wire_type = head[0] >> 3, head[0] & 7
    return "a protobuf message (perhaps a frozen graph or a SavedModel)" if 1 <= field <= 15 and wire_type == 2 else ""
