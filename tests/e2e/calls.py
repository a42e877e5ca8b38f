"""Calls to the suite as other programs make them: `buf curl`, and by the stubs to look at an error's details."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.e2e.desk import PATIENCE_SECONDS
from tests.eventually import wait_for

BUF = Path(sys.executable).with_name("buf")
PROTOS = Path(__file__).parents[2] / "protos"


@dataclass(frozen=True)
class Refusal:
    """An error as a caller sees it.

    Attributes:
        code: The canonical name, such as "NOT_FOUND".
        reason: Of ErrorInfo.
        message: The sentence.
        fields: Those that BadRequest names.
    """

    code: str
    reason: str
    message: str
    fields: tuple[str, ...]


def refusal(call: Callable[..., Any], request: Any, **arguments: Any) -> Refusal:
    """Make a call that must be refused, and return how."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **arguments)
    return refusal_of(caught.value)


def refusal_of(error: Any) -> Refusal:
    """Return the details of an error; every error of Lathe has an ErrorInfo of its domain."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    fields: tuple[str, ...] = ()
    for packed in status.details:
        packed.Unpack(info)
        if packed.Unpack(bad):
            fields = tuple(violation.field for violation in bad.field_violations)
    assert info.domain == "lathe", status
    return Refusal(error.code().name, info.reason, status.message, fields)


def violations(error: Any) -> list[tuple[str, str]]:
    """Return the (rule, subject) of every broken rule that an error names."""
    status, failure = rpc_status.from_call(error), error_details_pb2.PreconditionFailure()
    assert status
    assert any(detail.Unpack(failure) for detail in status.details)
    return [(each.type, each.subject) for each in failure.violations]


def buf_command(address: str, *arguments: str) -> list[str]:
    """Return the command of `buf curl` against an address; the last argument is the path of the URL."""
    *flags, path = arguments
    return [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *flags, f"http://{address}/{path}"]


def buf_curl(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `buf curl` against an address."""
    return subprocess.run(
        buf_command(address, *arguments), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


class Watching:
    """A program that watches something: it has told how that is now, before what is to be seen happens."""

    def __init__(self, command: Sequence[str], file: Path, environment: Mapping[str, str] | None = None) -> None:
        self._file = file
        with file.open("w") as said:
            self._process = subprocess.Popen(command, stdout=said, env=environment)
        wait_for(lambda: file.stat().st_size > 0 or self._process.poll() is not None)

    def documents(self) -> list[Any]:
        """Wait for its end, which must be good, and return all that it told."""
        status = self._process.wait(PATIENCE_SECONDS)
        assert status == 0, (status, self._file.read_text())
        return list(documents(self._file.read_text()))


def buf_call(address: str, method: str, request: dict[str, Any] | None = None, *flags: str) -> list[Any]:
    """Call a method with the schema from reflection, and return every answer."""
    done = buf_curl(address, *flags, "-d", json.dumps(request or {}), method)
    assert done.returncode == 0, done.stderr
    return list(documents(done.stdout))


def buf_error(done: subprocess.CompletedProcess[str]) -> tuple[str, error_details_pb2.ErrorInfo]:
    """Return the code that `buf curl` printed, and the ErrorInfo beside it."""
    said = json.loads(done.stderr)
    info = error_details_pb2.ErrorInfo()
    (packed,) = [each["value"] for each in said["details"] if each["type"] == "google.rpc.ErrorInfo"]
    info.ParseFromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    return said["code"], info


def documents(text: str) -> Iterator[Any]:
    """Yield the JSON documents of a text, one after the other."""
    decoder = json.JSONDecoder()
    position = 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        document, position = decoder.raw_decode(text, position)
        yield document
