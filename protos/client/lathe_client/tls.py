"""TLS between a client and the services: which address speaks it, and why a connection fails."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

__all__ = ["open_channel", "why_unreachable"]

_SECURE = re.compile(r"^(https|grpcs)://")
_PLAIN = re.compile(r"^(http|grpc)://")
_TIMEOUT_SECONDS = 3.0
_EXPIRED = 10


def open_channel(address: str, ca_file: str, options: Sequence[tuple[str, Any]]) -> grpc.Channel:
    """Return a channel to a service.

    Args:
        address: host:port; with `https://` or `grpcs://` before it, or with a `ca_file`, over TLS.
        ca_file: Certificates of the authorities to trust, in PEM; empty for those that gRPC brings.
        options: Of the channel.

    Raises:
        OSError: The file cannot be read.
    """
    import grpc

    target, secure = _target(address, ca_file)
    if not secure:
        return grpc.insecure_channel(target, options=options)
    authorities = None
    if ca_file:
        with open(ca_file, "rb") as file:
            authorities = file.read()
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(authorities), options=options)


def why_unreachable(address: str, ca_file: str) -> str:
    """Return what is wrong between a client and a service that does not answer; empty if TLS has no part in it.

    It connects, and says what gRPC does not: the certificate is for another host, has expired or is signed by
    somebody else; or one side speaks TLS and the other does not.
    """
    target, secure = _target(address, ca_file)
    host, _, port = target.rpartition(":")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_SECONDS)
    except (OSError, ValueError):
        return ""
    with connection:
        connection.settimeout(_TIMEOUT_SECONDS)
        if not secure:
            return _why_not_plain(connection, target)
        return _why_not_secure(connection, host.strip("[]"), target, ca_file)


def _why_not_plain(connection: socket.socket, target: str) -> str:
    told = _handshake(connection, _context("", verified=False), "")
    if told is not None and not isinstance(told, ConnectionAbortedError):
        return ""
    return (
        f"{target} speaks TLS. Set LATHE_TLS_CA_FILE to the certificate of its authority, or write the address as "
        f"https://{target}."
    )


def _why_not_secure(connection: socket.socket, host: str, target: str, ca_file: str) -> str:
    told = _handshake(connection, _context(ca_file), host)
    if isinstance(told, ssl.SSLCertVerificationError):
        if told.verify_code == _EXPIRED:
            return f"The certificate of {target} has expired, or a clock is wrong. Its operators must renew it."
        if "match" in told.verify_message or "not valid for" in told.verify_message:
            names = ", ".join(_names(target, host, ca_file)) or "other hosts"
            return f"The certificate of {target} is for {names}, not for {host}. Use one of these names in the address."
        return (
            f"The certificate of {target} is not signed by an authority that is trusted here ({told.verify_message}). "
            "Set LATHE_TLS_CA_FILE to that of its authority."
        )
    if isinstance(told, ConnectionAbortedError):
        return f"{target} asks for a certificate: it is the port of Lathe's own services. Use the port for users."
    if isinstance(told, OSError):
        return (
            f"{target} speaks plaintext, and this client TLS. Leave https:// and LATHE_TLS_CA_FILE out, or let its "
            "operators set LATHE_TLS_CERT_FILE."
        )
    return ""


def _handshake(connection: socket.socket, context: ssl.SSLContext, host: str) -> OSError | None:
    """Shake hands and read the first byte; return what went wrong: ConnectionAbortedError if none came."""
    try:
        with context.wrap_socket(connection, server_hostname=host or None) as secured:
            # A server that asks for a certificate hangs up only now, while every other one greets.
            if not secured.recv(1):
                return ConnectionAbortedError()
    except OSError as error:
        return error
    return None


def _names(target: str, host: str, ca_file: str) -> list[str]:
    context = _context(ca_file)
    context.check_hostname = False
    try:
        port = int(target.rpartition(":")[2])
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS) as connection,
            context.wrap_socket(connection) as secured,
        ):
            shown: Any = secured.getpeercert() or {}
    except OSError:
        return []
    return [name for _, name in shown.get("subjectAltName", ())]


def _context(ca_file: str, verified: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["h2"])
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _target(address: str, ca_file: str) -> tuple[str, bool]:
    """Return host:port, and whether it speaks TLS."""
    secure = bool(_SECURE.match(address)) or (bool(ca_file) and not _PLAIN.match(address))
    return _PLAIN.sub("", _SECURE.sub("", address)).rstrip("/"), secure
