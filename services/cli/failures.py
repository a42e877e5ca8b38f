"""Failures of commands as one sentence, details and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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


def explain_rpc(error: grpc.RpcError) -> Failure:
    """Return the message of a gRPC error, with the details from the service."""
    from lathe_client import LatheError

    told = error if isinstance(error, LatheError) else LatheError(error)
    code, sentence = told.code().name, told.message
    if code == "UNAVAILABLE" and "connect" in sentence.lower() and "lathe" not in sentence.lower():
        if why := _why_unreachable(sentence):
            return Failure(why, (), ExitCode.UNAVAILABLE)
        return Failure(
            "The service does not answer.",
            (sentence, "Start the suite with `lathe up`, or give the service's address with --address."),
            ExitCode.UNAVAILABLE,
        )
    sentence, *details = str(told).splitlines()
    if code == "UNAUTHENTICATED" and not os.environ.get("LATHE_TOKEN"):
        details.append("Set LATHE_TOKEN to your token.")
    return Failure(sentence, tuple(details), exit_code_for(code))


def _why_unreachable(sentence: str) -> str:
    """Return what is wrong with TLS between here and the service whose port the sentence names; empty if nothing is."""
    from lathe_client.tls import why_unreachable

    from services.cli.client import find_addresses
    from services.cli.options import current_options

    options = current_options()
    for address in find_addresses(options.addresses, os.environ, options.data_dir).values():
        if f":{address.rpartition(':')[2]}" in sentence:
            return why_unreachable(address, os.environ.get("LATHE_TLS_CA_FILE", ""))
    return ""


def _explain_local(error: BaseException) -> Failure:
    sentence, *details = str(error).splitlines()
    return Failure(sentence, tuple(details))


def _explain_ended(error: Any) -> Failure:
    code = ExitCode.TASK_FAILED if error.message.HasField("failure") else ExitCode.TASK_CANCELLED
    return replace(_explain_local(error), code=code)


def _explain_engine(error: BaseException) -> Failure:
    fix = getattr(error, "suggested_fix", "")
    return Failure(f"{error} [{getattr(error, 'reason', '')}]", (fix,) if fix else ())


_KNOWN: tuple[tuple[str, str, Callable[[Any], Failure]], ...] = (
    ("lathe_client.errors", "TransferError", _explain_local),
    ("lathe_client.errors", "ImportEndedError", _explain_ended),
    ("grpc", "RpcError", explain_rpc),
    ("services.local.errors", "LocalError", _explain_local),
    ("engines.failures", "EngineFailure", _explain_engine),
    ("services.platform.settings", "ConfigurationError", _explain_local),
)
