"""A certificate authority for tests: real certificates, made in milliseconds."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Files:
    """The files that a process is given."""

    cert: Path
    key: Path
    ca: Path

    def settings(self) -> dict[str, Any]:
        """Return the settings of a service that serves with these."""
        return {"tls_cert_file": self.cert, "tls_key_file": self.key, "tls_ca_file": self.ca}


class Authority:
    """Signs certificates, and writes them to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {folder.name}")])
        builder = self._builder(self._name, self._key.public_key(), timedelta(days=1))
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        certificate = builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str, to: str = "tls", valid: timedelta = timedelta(hours=1)) -> Files:
        """Write a certificate for names (hosts or IP addresses) and its key, in place of earlier files of `to`.

        Args:
            names: For whom it is.
            to: First part of the names of the files.
            valid: How long from now; the past if negative.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._builder(subject, key.public_key(), valid)
        builder = builder.add_extension(x509.SubjectAlternativeName([*map(_general, names)]), critical=False)
        certificate = builder.add_extension(uses, critical=False).sign(self._key, hashes.SHA256())
        files = Files(self.folder / f"{to}.crt", self.folder / f"{to}.key", self.ca)
        for path, content in (
            (files.cert, certificate.public_bytes(serialization.Encoding.PEM)),
            (
                files.key,
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
            ),
        ):
            draft = path.with_suffix(".draft")
            draft.write_bytes(content)
            draft.replace(path)
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, valid: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + valid)
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
