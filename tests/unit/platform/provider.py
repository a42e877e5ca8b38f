"""An identity provider in this process: it signs tokens, and publishes its keys by HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.com/"
AUDIENCE = "lathe"
SHORT_LIVED = 300


class Provider:
    """Signs with any of its keys; `published` are the ids of those in its JWKS."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, tuple[Any, str]] = {
            "rsa": (rsa.generate_private_key(65537, 2048), "RS256"),
            "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
            "ed": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        }
        self.published = ["rsa", "ec", "ed"]
        self.away = False
        self.asked = 0

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token with changes; None takes a claim out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada",
            "groups": ["vision", "ops"],
            "iat": now,
            "exp": now + SHORT_LIVED,
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, key: str = "rsa", /, **changes: Any) -> str:
        """Return a signed token."""
        private, algorithm = self.keys[key]
        return jwt.encode(self.claims(**changes), private, algorithm, headers={"kid": key})

    def jwks(self) -> dict[str, Any]:
        """Return what it publishes."""
        return {"keys": [self._public(name) for name in self.published]}

    def _public(self, name: str) -> dict[str, Any]:
        private, algorithm = self.keys[name]
        kind: Any = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}[algorithm]
        return {**kind.to_jwk(private.public_key(), as_dict=True), "kid": name, "use": "sig"}


@contextmanager
def provider() -> Iterator[Provider]:
    """An identity provider on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            self.send_response(503 if found.away else 200)
            self.end_headers()
            if not found.away:
                self.wfile.write(json.dumps(found.jwks()).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Provider(f"http://127.0.0.1:{server.server_port}/keys")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
