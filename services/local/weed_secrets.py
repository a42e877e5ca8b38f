"""What closes the inner ports of the embedded S3 store, made anew for each start and known to its process alone.

SeaweedFS asks nobody for anything on its filer, master and volume ports: whoever reaches them reads, writes and deletes
what the S3 port guards. So its gRPC servers get mutual TLS, its volume server takes signed requests only, and its
master and filer no HTTP requests at all (`-disableHttp`), as the parts speak gRPC with each other. What is left
without a secret tells sizes and counts: the master's page `/`, `/status` of the volume server, `/metrics` of the admin.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from services.local.secret import write_private

# Every section of its security.toml that names a certificate.
_GRPC_ROLES = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT", "MSG_BROKER", "MSG_AGENT", "MQ")
_JWT_KEYS = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)
# Longer than any process lives, on both sides: a clock that jumps must not lock the store.
_MARGIN = timedelta(days=3650)


def inner_secrets(folder: Path) -> dict[str, str]:
    """Write a new certificate into a folder; return the environment variables that make SeaweedFS demand it."""
    certificate, key = folder / "inner-certificate.pem", folder / "inner-key.pem"
    written = _certificate()
    write_private(certificate, written[0])
    write_private(key, written[1])
    files = {"CERT": str(certificate), "KEY": str(key)}
    variables = {f"WEED_GRPC_{role}_{what}": path for role in _GRPC_ROLES for what, path in files.items()}
    return variables | {"WEED_GRPC_CA": str(certificate)} | {name: secrets.token_hex(32) for name in _JWT_KEYS}


def _certificate() -> tuple[str, str]:
    """Return a certificate that vouches for itself, and its key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lathe embedded store")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _MARGIN)
        .not_valid_after(now + _MARGIN)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
