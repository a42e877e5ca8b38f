"""Provenance of a package: a signed statement of what its files are, and of what and how they were made.

An in-toto Statement v1 with the predicate of SLSA provenance v1, in an envelope of DSSE v1. The file holds one
envelope, written in one way only, so that no byte of it can change unseen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

FILE_NAME = "provenance.intoto.jsonl"
"""The file of a package that holds the envelope; it is the only one that the statement does not name."""
MAX_BYTES = 64 << 20
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


class ProvenanceError(Exception):
    """A key or a provenance cannot be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        sha256: Digest of its bytes, in hexadecimal.
        size_bytes: Number of its bytes.
    """

    sha256: str
    size_bytes: int


class Signed(StrEnum):
    """What the signatures of a provenance are worth."""

    GOOD = "GOOD"
    """Somebody who has a given key signed it, as it is."""
    BAD = "BAD"
    """A signature in the name of a given key is not of this statement: one of them was changed."""
    OTHER_KEY = "OTHER_KEY"
    """It is signed, but with none of the given keys."""
    UNCHECKED = "UNCHECKED"
    """It is signed, and no key was given to check that."""
    UNSIGNED = "UNSIGNED"
    """Nobody signed it, so that anybody may have written it."""


@dataclass(frozen=True)
class Provenance:
    """A provenance as it was read.

    Attributes:
        statement: The whole statement.
        files: What the statement says of each file of the package, by path.
        key_ids: Identifiers of the keys that the signatures name.
    """

    statement: Mapping[str, Any]
    files: Mapping[str, Content]
    key_ids: tuple[str, ...]
    envelope: Envelope

    @property
    def predicate(self) -> Mapping[str, Any]:
        """The SLSA provenance."""
        predicate: Mapping[str, Any] = self.statement["predicate"]
        return predicate

    def signed(self, keys: Sequence[SSlibKey]) -> Signed:
        """Return what the signatures are worth to somebody who trusts these keys."""
        from securesystemslib.exceptions import VerificationError

        if not self.key_ids:
            return Signed.UNSIGNED
        if not keys:
            return Signed.UNCHECKED
        named = [key for key in {key.keyid: key for key in keys}.values() if key.keyid in self.key_ids]
        if not named:
            return Signed.OTHER_KEY
        try:
            self.envelope.verify(list(named), len(named))
        except VerificationError:
            return Signed.BAD
        return Signed.GOOD


def write(files: Mapping[str, Content], predicate: Mapping[str, Any], signer: CryptoSigner | None) -> bytes:
    """Return the content of a package's provenance.

    Args:
        files: All other files of the package, by path.
        predicate: The SLSA provenance.
        signer: The key to sign with; without one the statement is UNSIGNED.
    """
    from securesystemslib.dsse import Envelope

    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": path, "digest": {"sha256": files[path].sha256}, "annotations": {"size": files[path].size_bytes}}
            for path in sorted(files)
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    envelope = Envelope(_canonical(statement), PAYLOAD_TYPE, {})
    if signer is not None:
        envelope.sign(signer)
    return _line(envelope)


def read(text: bytes) -> Provenance:
    """Return the provenance in the content of a file; its signatures are not checked yet.

    Raises:
        ProvenanceError: It is not what `write` writes.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    try:
        envelope = Envelope.from_dict(json.loads(text))
        plain = not any(signature.unrecognized_fields for signature in envelope.signatures.values())
        if not plain or _line(envelope) != text or envelope.payload_type != PAYLOAD_TYPE:
            raise _changed("it is not written as Lathe writes it")
        statement = json.loads(envelope.payload)
        types = (statement["_type"], statement["predicateType"], type(statement["predicate"]))
        files = {entry["name"]: _content(entry) for entry in statement["subject"]}
        if types != (STATEMENT_TYPE, PREDICATE_TYPE, dict) or len(files) != len(statement["subject"]):
            raise _changed(f"it is no {PREDICATE_TYPE}, or names a file twice")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise _changed(f"it cannot be read ({type(error).__name__})") from error
    return Provenance(statement, files, tuple(envelope.signatures), envelope)


def read_signer(path: Path) -> CryptoSigner:
    """Return what signs with the private key in a PEM file: Ed25519, ECDSA on a NIST curve, or RSA.

    Raises:
        ProvenanceError: The file cannot be read, or holds no such key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        return CryptoSigner(load_pem_private_key(_file(path), password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProvenanceError(
            f"{path} holds no private key that can sign: {error}. Make one with "
            f"`openssl genpkey -algorithm ed25519 -out {path}`; it must have no password."
        ) from error


def read_key(path: Path) -> SSlibKey:
    """Return the public key in a PEM file.

    Raises:
        ProvenanceError: The file cannot be read, or holds no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    text = _file(path)
    if b"PRIVATE KEY" in text:
        raise ProvenanceError(
            f"{path} is a private key, which nobody but Lathe's registry should have. Give its public one: "
            f"`openssl pkey -in {path} -pubout`."
        )
    try:
        return SSlibKey.from_crypto(load_pem_public_key(text))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ProvenanceError(f"{path} holds no public key in PEM: {error}.") from error


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProvenanceError(f"{path}: {error.strerror}.") from error


def _content(entry: Mapping[str, Any]) -> Content:
    content = Content(entry["digest"]["sha256"], entry["annotations"]["size"])
    if not (isinstance(entry["name"], str) and isinstance(content.sha256, str) and type(content.size_bytes) is int):
        raise TypeError("a file's name, digest or size")
    return content


def _changed(why: str) -> ProvenanceError:
    return ProvenanceError(f"{FILE_NAME} was changed, or Lathe did not write it: {why}. Fetch the package again.")


def _line(envelope: Envelope) -> bytes:
    return _canonical(envelope.to_dict()) + b"\n"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
