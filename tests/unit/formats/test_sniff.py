import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.spec.sniff import sniff


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    return buffer.getvalue()


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (bytes(500), "a file of zeros"),
        (b"<!DOCTYPE html>\n<title>Sign in</title>", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a Git LFS pointer"),
        (b'{"error": "not found"}', "a JSON document"),
        ("Hällo\n".encode(), "a text file"),
        (gzip.compress(b"x"), "a gzip file"),
        (_tar(), "a tar archive"),
        (_zip("a.txt"), "a zip archive"),
        (_zip("a.txt")[:-10], "a truncated zip archive"),
        (_zip("net/data.pkl", "net/version"), "a file of torch.save"),
        (_zip("net/data.pkl", "net/constants.pkl"), "a TorchScript archive"),
        (_zip("net/archive_format"), "a torch.export program"),
        (_npz(), "a NumPy archive"),
        (pickle.dumps({"a": 1}), "a Python pickle"),
        (pickle.dumps({"a": 1}, protocol=0), "a Python pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
        (_safetensors(), "a safetensors file"),
        (b"\x08\x0a\x12\x07pytorch", "an ONNX model"),
        (b"\x0a\x05\xff\x02ab\x80", "a protobuf message"),
        (b"\xf3\x01\x99\xc0" * 9, "nothing that Lathe knows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_files_look_like(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "f").write_bytes(content)
    assert sniff(tmp_path / "f").startswith(words)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x08\x07", b"{", b"\x1f\x8b"]))
def test_any_bytes_look_like_something(tmp_path: Path, content: bytes, head: bytes) -> None:
    (tmp_path / "f").write_bytes(head + content)
    assert sniff(tmp_path / "f")
