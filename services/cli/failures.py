"""Failures of commands as one sentence, details and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.cli.exit_codes import ExitCode, exit_code_for

if TYPE_CHECKING:
    import grpc


class CliError(Exception):
    """Ends a command with a sentence and an exit code, without a traceback."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Failure:
    """The message of a failure: a sentence, details one per line, and the exit code."""

    sentence: str
    details: tuple[str, ...] = ()
    code: ExitCode = ExitCode.FAILED


def explain(error: BaseException) -> Failure | None:
    """Return the message of an exception, or None if it is a bug of this program."""
    if isinstance(error, CliError):
        return Failure(str(error), code=error.code)
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", code=ExitCode.INTERRUPTED)
    # A module that was never loaded cannot have raised the error.
    for module, name, tell in _KNOWN:
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
            return tell(error)
    if isinstance(error, OSError) and error.filename:
        return Failure(f"{error.filename}: {error.strerror}")
    return None


def explain_rpc(error: grpc.Call) -> Failure:
    """Return the message of a gRPC error, with the details from the service."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    code, sentence = error.code().name, error.details() or error.code().name
    if code == "UNAVAILABLE" and "connect" in sentence.lower() and "lathe" not in sentence.lower():
        return Failure(
            "The service does not answer.",
            (sentence, "Start the suite with `lathe up`, or give the service's address with --address."),
            ExitCode.UNAVAILABLE,
        )
    reason = code
    details: list[tuple[str, str]] = []
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        status = None
    for packed in status.details if status else ():
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        failure = error_details_pb2.PreconditionFailure()
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(bad):
            details += [(each.field, each.description) for each in bad.field_violations]
        elif packed.Unpack(failure):
            details += [(each.subject, each.description) for each in failure.violations]
    # A text that a service has shortened ends in an ellipsis.
    more = [(where, what) for where, what in details if what.removesuffix("…") not in sentence]
    news = tuple(f"{where}: {what}" if where else what for where, what in more)
    return Failure(f"{sentence} [{reason}]", news, exit_code_for(code))


def _explain_rpc(error: BaseException) -> Failure:
    return explain_rpc(error)  # type: ignore[arg-type] # every error of a call is also the call


def _explain_local(error: BaseException) -> Failure:
    sentence, *details = str(error).splitlines()
    return Failure(sentence, tuple(details))


def _explain_engine(error: BaseException) -> Failure:
    fix = getattr(error, "suggested_fix", "")
    return Failure(f"{error} [{getattr(error, 'reason', '')}]", (fix,) if fix else ())


_KNOWN: tuple[tuple[str, str, Callable[[BaseException], Failure]], ...] = (
    ("grpc", "RpcError", _explain_rpc),
    ("services.local.errors", "LocalError", _explain_local),
    ("engines.failures", "EngineFailure", _explain_engine),
    ("services.platform.settings", "ConfigurationError", _explain_local),
)
