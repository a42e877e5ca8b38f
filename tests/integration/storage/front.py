"""A stand-in for other S3 stores: an HTTP front before SeaweedFS with the rules of MinIO, AWS or a careless store.

It checks signatures and bodies itself, as the store that it stands for does, and sends requests on under its own
signature. MinIO's rules are taken from its source (`cmd/signature-v4.go`, `cmd/api-router.go`), not from a running one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import urllib3
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from services.platform.settings import Settings


@dataclass(frozen=True)
class Rules:
    """What a store verifies."""

    verifies_bodies: bool = True
    # AWS refuses `x-amz-` headers that are not signed; MinIO obeys them.
    refuses_unsigned: bool = False
    # MinIO takes a signed header that is missing from the query.
    looks_into_query: bool = True
    # So many PUTs are answered with 503 first.
    failures: int = 0


MINIO = Rules()
AWS = Rules(refuses_unsigned=True, looks_into_query=False)
CARELESS = Rules(verifies_bodies=False)
UNGUARDED = Rules(looks_into_query=False)


@contextmanager
def front(settings: Settings, rules: Rules) -> Iterator[Settings]:
    """Serve a front before the store of `settings`; yield settings that name it."""
    handler = type(
        "Handler",
        (_Handler,),
        {"settings": settings, "rules": rules, "failures": [rules.failures], "http": urllib3.PoolManager()},
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{server.server_port}"})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    settings: Settings
    rules: Rules
    failures: list[int]
    http: urllib3.PoolManager
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.failures[0]:
            self.failures[0] -= 1
            self._refuse(503, "SlowDown")
        elif "authorization" not in self.headers:
            self.path = self.path.partition("?")[0]  # a presigned URL, whose signature no test is about
            self._pass_on(body)
        elif not self._signature_matches():
            self._refuse(403, "SignatureDoesNotMatch")
        elif "/" in self.headers.get("x-amz-copy-source", ""):
            self._pass_on(b"", {"x-amz-copy-source": self.headers["x-amz-copy-source"]})
        elif self.rules.verifies_bodies and self.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            self._refuse(400, "XAmzContentSHA256Mismatch")
        else:
            condition = self.headers.get("if-none-match")
            self._pass_on(body, {"if-none-match": condition} if condition else {})

    def do_GET(self) -> None:
        self._pass_on(b"")

    do_HEAD = do_DELETE = do_POST = do_GET  # noqa: N815

    def _signature_matches(self) -> bool:
        """Sign the request again: the headers that say so, and nothing else."""
        claimed = self.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        signed: dict[str, str | list[str] | tuple[str]] = {}
        for name in claimed:
            values = self.headers.get_all(name) or (query.get(name) if self.rules.looks_into_query else None)
            if values is None:
                return False
            signed[name] = ",".join(values)
        unsigned = {name.lower() for name in self.headers if name.lower().startswith("x-amz-")} - set(claimed)
        if unsigned and self.rules.refuses_unsigned:
            return False
        date = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        again = self._sign(f"http://{self.headers['host']}{self.path}", signed, date)
        return again["Authorization"] == self.headers["authorization"]

    def _sign(
        self, url: str, headers: dict[str, str | list[str] | tuple[str]], date: datetime
    ) -> dict[str, str | list[str] | tuple[str]]:
        found = {name.lower(): str(value) for name, value in headers.items()}
        return sign_v4_s3(
            method=self.command,
            url=urlsplit(url),
            region=self.settings.s3_region,
            headers=dict(headers),
            credentials=Credentials(self.settings.s3_access_key, self.settings.s3_secret_key.get_secret_value()),
            content_sha256=found["x-amz-content-sha256"],
            date=date,
        )

    def _pass_on(self, body: bytes, more: dict[str, str] | None = None) -> None:
        path, _, query = self.path.partition("?")
        query = "&".join(part for part in query.split("&") if part and not part.startswith("x-amz-"))
        url = self.settings.s3_endpoint + path + (f"?{query}" if query else "")
        now = datetime.now(UTC)
        headers: dict[str, str | list[str] | tuple[str]] = {
            "Host": urlsplit(url).netloc,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
            **(more or {}),
        }
        sent = {name: str(value) for name, value in self._sign(url, headers, now).items()}
        self._answer(self.http.request(self.command, url, body=body, headers=sent, decode_content=False))

    def _answer(self, answer: urllib3.BaseHTTPResponse) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        length = answer.headers["content-length"] if self.command == "HEAD" else str(len(answer.data))
        if answer.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(answer.data)

    def _refuse(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        return
