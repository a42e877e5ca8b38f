"""Provenances: whatever is changed in a package or in its provenance is found; keys rotate; unsigned ones say so."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from engines.package.delivered import Difference, Finding, open_delivered
from engines.package.provenance import (
    FILE_NAME,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    Content,
    ProvenanceError,
    Signed,
    read,
    read_key,
    read_signer,
    write,
)

FILES = {
    "manifest.json": b'{"schema_version": 1}\n',
    "net/model.onnx": bytes(range(256)),
    "net/empty": b"",
    "ä.txt": b"x",
}
PREDICATE: dict[str, Any] = {"buildDefinition": {"buildType": "lathe:x"}, "runDetails": {"builder": {"id": "lathe:y"}}}
KEYS: dict[str, Callable[[], Any]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


def contents(files: dict[str, bytes]) -> dict[str, Content]:
    return {path: Content(hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()}


def pair(folder: Path, kind: str = "ed25519", name: str = "signing") -> tuple[Path, Path]:
    """Write a pair of keys, as openssl does."""
    private = KEYS[kind]()
    secret, public = folder / f"{name}.pem", folder / f"{name}.pub"
    secret.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return secret, public


@cache
def keys() -> tuple[Any, Any]:
    from securesystemslib.signer import CryptoSigner, SSlibKey

    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    return CryptoSigner(private), SSlibKey.from_crypto(private.public_key())


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data, compression)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: Literal["w:xz", "w:gz"]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def package(signer: Any = None) -> dict[str, bytes]:
    return FILES | {FILE_NAME: write(contents(FILES), PREDICATE, signer)}


MADE: dict[str, Callable[[], bytes]] = {
    "zip": cache(lambda: packed(package())),
    "zip, LZMA": cache(lambda: packed(package(), zipfile.ZIP_LZMA)),
    "tar.gz": cache(lambda: tarred(package(), "w:gz")),
    "tar.xz": cache(lambda: tarred(package(), "w:xz")),
}


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def judged(path: Path) -> tuple[Signed, list[Finding]]:
    with open_delivered(path) as delivered:
        return delivered.provenance.signed([keys()[1]]), list(delivered.findings())


@pytest.mark.parametrize("kind", KEYS)
def test_what_one_key_signed_no_other_key_did(kind: str, tmp_path: Path) -> None:
    secret, public = pair(tmp_path, kind)
    other = read_key(pair(tmp_path, kind, "other")[1])
    found = read(write(contents(FILES), PREDICATE, read_signer(secret)))
    mine = read_key(public)
    assert found.key_ids == (mine.keyid,)
    assert found.files == contents(FILES)
    assert (found.statement["_type"], found.statement["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
    assert found.predicate == PREDICATE
    assert [found.signed(given) for given in ([mine], [other, mine], [other], [])] == [
        Signed.GOOD,
        Signed.GOOD,  # keys rotate: whoever verifies gives the old one and the new one
        Signed.OTHER_KEY,
        Signed.UNCHECKED,
    ]


def test_what_nobody_signed_says_so() -> None:
    text = write(contents(FILES), PREDICATE, None)
    assert read(text).signed([keys()[1]]) is Signed.UNSIGNED
    assert json.loads(text)["signatures"] == []


def test_a_signature_moved_to_another_statement_is_bad() -> None:
    signed = json.loads(write(contents(FILES), PREDICATE, keys()[0]))
    other = json.loads(write(contents({"manifest.json": b"other"}), PREDICATE, None))
    text = json.dumps(signed | {"payload": other["payload"]}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert read(text).signed([keys()[1]]) is Signed.BAD


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_provenance_with_any_bit_flipped_is_not_believed(place: float, bit: int) -> None:
    text = bytearray(write(contents(FILES), PREDICATE, keys()[0]))
    text[int(place * len(text))] ^= 1 << bit
    try:
        found = read(bytes(text))
    except ProvenanceError:
        return
    assert found.signed([keys()[1]]) is not Signed.GOOD


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), file=st.sampled_from(sorted(FILES)))
def test_a_file_with_any_bit_flipped_is_found(place: float, bit: int, file: str) -> None:
    files = package(keys()[0])
    changed = bytearray(files[file]) or bytearray(b"\0")
    changed[int(place * len(changed))] ^= 1 << bit
    assert found_in(files | {file: bytes(changed)}) == [Finding(file, Difference.CHANGED)]


@given(removed=st.sets(st.sampled_from(sorted(FILES)), min_size=1), added=st.sets(st.text("ab/.", min_size=1)))
def test_files_that_are_added_and_removed_are_found(removed: set[str], added: set[str]) -> None:
    files = {path: data for path, data in package(keys()[0]).items() if path not in removed}
    more = {path for path in added if not path.endswith("/") and path not in files}
    found = found_in(files | dict.fromkeys(more, b""))
    assert {each.path for each in found if each.difference is Difference.MISSING} == removed
    assert {each.path for each in found if each.difference is Difference.ADDED} == more
    assert len(found) == len(removed) + len(more)


@given(renamed=st.sampled_from(sorted(FILES)))
def test_a_renamed_file_is_found(renamed: str) -> None:
    files = package(keys()[0])
    files["renamed"] = files.pop(renamed)
    assert sorted(found_in(files), key=lambda each: each.path) == sorted(
        [Finding("renamed", Difference.ADDED), Finding(renamed, Difference.MISSING)], key=lambda each: each.path
    )


def found_in(files: dict[str, bytes]) -> list[Finding]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        archive = Path(folder) / "package.zip"
        archive.write_bytes(packed(files))
        signed, findings = judged(archive)
    assert signed is Signed.GOOD
    return findings


@pytest.mark.parametrize("top", ["", "mine/"])
def test_a_package_is_the_same_in_a_folder_and_in_every_archive(top: str, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "folder", {f"{top}{path}": data for path, data in package(keys()[0]).items()})
    for form in ("zip", "tar", "gztar", "xztar"):
        judgement = judged(Path(shutil.make_archive(str(tmp_path / "package"), form, folder)))
        assert judgement == judged(folder) == (Signed.GOOD, [])


def test_links_are_no_files_and_nothing_behind_them_is_read(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "folder", package(keys()[0]))
    shutil.move(folder / "manifest.json", tmp_path / "manifest.json")
    (folder / "manifest.json").symlink_to(tmp_path / "manifest.json")
    (folder / "away").symlink_to(tmp_path)
    expected = [Finding("away", Difference.ADDED), Finding("manifest.json", Difference.NO_FILE)]
    assert judged(folder)[1] == expected
    with tarfile.open(tmp_path / "package.tar", "w") as archive:
        archive.add(folder, "")
    assert judged(tmp_path / "package.tar")[1] == expected


def test_a_file_that_is_there_twice_is_found(tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    archive.write_bytes(packed(package(keys()[0])))
    with zipfile.ZipFile(archive, "a") as more, pytest.warns(UserWarning, match="Duplicate"):
        more.writestr("manifest.json", FILES["manifest.json"])
    assert judged(archive)[1] == [Finding("manifest.json", Difference.TWICE)]


def test_of_a_file_that_is_larger_than_it_should_be_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unpacked(tmp_path, package(keys()[0]))
    with (folder / "net/model.onnx").open("ab") as file:
        file.truncate(1 << 40)  # sparse: reading it would take an hour
    assert judged(folder)[1] == [Finding("net/model.onnx", Difference.CHANGED)]


@given(
    place=st.floats(0, 1, exclude_max=True), data=st.binary(min_size=1, max_size=4), kind=st.sampled_from(sorted(MADE))
)
def test_a_damaged_archive_is_told_as_one(tmp_path_factory: Any, place: float, data: bytes, kind: str) -> None:
    damaged = bytearray(MADE[kind]())
    at = int(place * len(damaged))
    damaged[at : at + len(data)] = data
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    with contextlib.suppress(ProvenanceError):
        judged(path)


def test_what_is_no_package_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "has no provenance"), (tmp_path / "none", "no such file")):
        with pytest.raises(ProvenanceError, match=words):
            judged(path)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(packed(package())[:-30])
    with pytest.raises(ProvenanceError, match="no folder, zip file or tar file, or is damaged"):
        judged(cut)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"payload":1}', b"[" * 100_000, write({}, {}, None)[:-1], b" " + write({}, {}, None)]
)
def test_what_lathe_did_not_write_is_refused(text: bytes) -> None:
    with pytest.raises(ProvenanceError, match="was changed, or Lathe did not write it"):
        read(text)


def test_a_statement_that_names_a_file_twice_is_refused() -> None:
    envelope = json.loads(write(contents(FILES), PREDICATE, None))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["subject"].append(statement["subject"][0])
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    with pytest.raises(ProvenanceError, match="names a file twice"):
        read(json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def test_keys_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    secret, public = pair(tmp_path)
    with pytest.raises(ProvenanceError, match="is a private key, which nobody"):
        read_key(secret)
    with pytest.raises(ProvenanceError, match="holds no private key"):
        read_signer(public)
    with pytest.raises(ProvenanceError, match="No such file"):
        read_signer(tmp_path / "none")
    secret.write_bytes(
        x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(ProvenanceError, match="holds no private key that can sign"):
        read_signer(secret)
    public.write_text("no key")
    with pytest.raises(ProvenanceError, match="holds no public key"):
        read_key(public)
