"""Certificates of a process, from files that may be replaced while it runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog

from services.platform.reread import Reread
from services.platform.settings import ConfigurationError, Settings

__all__ = ["Certificates", "Material", "trusting"]

_log: Any = structlog.get_logger("lathe.tls")


@dataclass(frozen=True)
class Material:
    """What the files hold, as PEM.

    Attributes:
        key: Private key.
        chain: The certificate, and those between it and its authority.
        authorities: Whose certificates are trusted; None for those of the system.
    """

    key: bytes
    chain: bytes
    authorities: bytes | None


class Certificates:
    """The certificate that a process shows, to clients and to siblings, and the authorities that it trusts.

    Files that change are read again. Those that cannot be used leave what was known: a rotation that replaces one file
    after the other is seen in the middle.

    Args:
        settings: LATHE_TLS_CERT_FILE, LATHE_TLS_KEY_FILE, LATHE_TLS_CA_FILE.

    Raises:
        ConfigurationError: The files cannot be used now, at the start.
    """

    def __init__(self, settings: Settings) -> None:
        cert, key = settings.tls_cert_file, settings.tls_key_file
        if cert is None or key is None:
            raise ConfigurationError("LATHE_TLS_CERT_FILE and LATHE_TLS_KEY_FILE go together: set both, or none.")
        self._cert, self._key, self._ca = cert, key, settings.tls_ca_file
        self._material = Reread(
            [path for path in (cert, key, self._ca) if path],
            self._read,
            _log,
            renewed="certificates read again",
            refused="certificates have changed and cannot be used; those from before stay",
        )

    @classmethod
    def of(cls, settings: Settings) -> Certificates | None:
        """Return the certificates that the settings name; None if they name none, and everything is in the clear.

        Raises:
            ConfigurationError: Part of what is needed is missing, or cannot be used.
        """
        if settings.tls_cert_file is None and settings.tls_key_file is None:
            if settings.internal_port:
                raise ConfigurationError(
                    "LATHE_INTERNAL_PORT asks siblings for certificates, so LATHE_TLS_CERT_FILE, LATHE_TLS_KEY_FILE "
                    "and LATHE_TLS_CA_FILE are needed too."
                )
            return None
        if settings.internal_port and settings.tls_ca_file is None:
            raise ConfigurationError(
                "LATHE_INTERNAL_PORT asks siblings for certificates, so LATHE_TLS_CA_FILE is needed: the authority "
                "that signs them."
            )
        return cls(settings)

    def current(self) -> Material:
        """Return what the files hold, or held when they could last be used: another object after each change."""
        return self._material.current()

    def for_server(self, *, of_siblings: bool = False) -> grpc.ServerCredentials:
        """Return credentials for a port; each new connection gets what the files hold then.

        Args:
            of_siblings: Whether clients must show a certificate of the authority.
        """
        shown = self.current()

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            current = self.current()
            if current is shown:
                return None
            shown = current
            return _configuration(current)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(shown),
            changed,  # type: ignore[arg-type]  # None is allowed: nothing has changed
            require_client_authentication=of_siblings,
        )

    def _read(self) -> Material:
        _check(self._cert, self._key, self._ca)
        try:
            authorities = self._ca.read_bytes() if self._ca else None
            return Material(self._key.read_bytes(), self._cert.read_bytes(), authorities)
        except OSError as error:
            raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}.") from None


def for_client(material: Material) -> grpc.ChannelCredentials:
    """Return credentials for calls to siblings, with the certificate that tells who calls."""
    return grpc.ssl_channel_credentials(material.authorities, material.key, material.chain)


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Return what a client of another server (NATS, HTTPS) trusts: the system's authorities, and LATHE_TLS_CA_FILE's.

    Raises:
        ConfigurationError: The file has no certificates.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"LATHE_TLS_CA_FILE {ca_file} has no certificates in PEM: {error}.") from None
    return context


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.authorities)


def _check(cert: Path, key: Path, ca: Path | None) -> None:
    """Raise ConfigurationError unless the key is that of the certificate, and the authorities can be read."""
    trusting(ca)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"LATHE_TLS_CERT_FILE {cert} and LATHE_TLS_KEY_FILE {key} are no certificate and its key, in PEM: "
            f"{error.reason or error}."
        ) from None
    except OSError as error:
        missing = next((each for each in (cert, key) if not each.is_file()), cert)
        raise ConfigurationError(f"{missing} cannot be read: {error.strerror}.") from None
