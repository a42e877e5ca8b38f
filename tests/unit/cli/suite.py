"""A fake suite that records requests and returns the responses of a test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from lathe.registry.v1.artifact_service_pb2 import Artifact, Download

from services.local.roster import SERVICES
from services.platform.errors import DETAILS_KEY


class RefusedError(Exception):
    """An answer that is a refusal; with a reason, it has the details in which services tell it."""

    def __init__(self, code: grpc.StatusCode, message: str = "no", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    def abort(self, context: grpc.ServicerContext) -> None:
        """End a call with it."""
        if self.reason:
            status = status_pb2.Status(code=self.code.value[0], message=str(self))
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="lathe"))
            context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
        context.abort(self.code, str(self))


class Suite(grpc.GenericRpcHandler):
    """Every service at one address.

    `answers[method]` is a message, a list of them for a stream, an exception, or a function that makes one of these of
    the request; what has no answer is NOT_FOUND. `asked[method]` are the requests, `seconds[method]` the deadlines.
    """

    def __init__(self) -> None:
        self.address = ""
        self.url = ""
        self.answers: dict[str, Any] = {}
        self.asked: defaultdict[str, list[Any]] = defaultdict(list)
        self.seconds: dict[str, float | None] = {}
        self.blobs: dict[str, bytes] = {}

    def reset(self) -> None:
        """Forget recorded requests; uploads find their bytes stored, downloads come from `blobs`."""
        self.asked.clear()
        self.answers = {
            "GetArtifact": lambda request: Artifact(name=request.name),
            "GetDownload": lambda request: Download(url=f"{self.url}/{request.name}"),
        }

    def service(self, details: Any) -> Any:
        service, method = details.method.strip("/").split("/")
        described = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(method)
        request_type: Any = message_factory.GetMessageClass(described.input_type)

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self.asked[method].append(request)
            self.seconds[method] = context.time_remaining()
            found = self.answers.get(method, RefusedError(grpc.StatusCode.NOT_FOUND))
            found = found(request) if isinstance(found, Callable) else found  # type: ignore[arg-type]
            if isinstance(found, RefusedError):
                found.abort(context)
            return found

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            for each in answer(request, context):
                if isinstance(each, RefusedError):
                    each.abort(context)
                yield each

        if described.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, request_type.FromString, _bytes)
        return grpc.unary_unary_rpc_method_handler(answer, request_type.FromString, _bytes)

    def options(self) -> list[str]:
        """Return the options of a command line that reach it."""
        return [word for entry in SERVICES for word in ("--address", f"{entry.name}={self.address}")]


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


@contextmanager
def serving() -> Iterator[Suite]:
    """Serve a suite and its blobs on free ports."""
    suite = Suite()

    class Blobs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(suite.blobs[self.path.rpartition("/")[2]])

        def log_message(self, *_: Any) -> None:
            pass

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers([suite])
    suite.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    web = ThreadingHTTPServer(("127.0.0.1", 0), Blobs)
    suite.url = f"http://127.0.0.1:{web.server_port}"
    Thread(target=web.serve_forever, daemon=True).start()
    try:
        yield suite
    finally:
        web.shutdown()
        web.server_close()
        server.stop(0)
