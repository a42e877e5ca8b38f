"""Describes the files of a version, which it reads in a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToJson, ParseError
from lathe.registry.v1.model_service_pb2 import ModelDescription, ModelFormat
from lathe.type.v1.digest_pb2 import File

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.sandbox import Child, Limits
from services.platform import failures
from services.platform.errors import LatheError, failed_precondition, invalid_argument
from services.platform.failures import ChildWork
from services.platform.words import from_values, word
from services.platform.work_folders import temporary_folder
from services.storage import ContentStore

LIMITS = Limits(memory_bytes=1 << 30, timeout_seconds=60)
# Children that may read at the same time: each may take the whole memory limit.
_SLOTS = 2
_FETCHES = 8
_FOLDER = "files"
# An answer has to stay under gRPC's 4 MiB: the JSON form is left out of one that would not.
_MAX_ANSWER_BYTES = 4_000_000

REFUSED = {
    FailureReason.INVALID_MODEL: "INVALID_MODEL",
    FailureReason.UNSAFE_MODEL: "UNSAFE_MODEL",
    # A file that makes its reader crash is not what its format says.
    FailureReason.TOOLCHAIN_CRASHED: "INVALID_MODEL",
    # The files do not belong together, or have a layer that Lathe does not read: nothing of the version would work.
    FailureReason.WEIGHTS_MISMATCH: "INVALID_MODEL",
    FailureReason.UNSUPPORTED_OPERATOR: "INVALID_MODEL",
}
_READING = ChildWork(
    "Reading the files",
    LIMITS,
    too_large="MODEL_TOO_LARGE",
    smaller="Save the model in its binary form, with the weights apart from the graph: weights are not read.",
    role="registry",
)


def require_described(model_format: ModelFormat.ValueType) -> None:
    """Refuse a format that cannot be read yet: LatheError FAILED_PRECONDITION, reason FORMAT_NOT_SUPPORTED_YET."""
    name = word(ModelFormat, model_format)
    if name not in FORMATS:
        raise failed_precondition(
            "FORMAT_NOT_SUPPORTED_YET",
            f"Files of the format {name} cannot be read yet. These can: {', '.join(FORMATS)}.",
            subject=name,
        )


class Describer:
    """Describes the files of versions, a few at a time, each in its own sandboxed process."""

    def __init__(self, store: ContentStore, folder: Path) -> None:
        """Work in folders inside `folder`."""
        self._store = store
        self._folder = folder
        self._slots = asyncio.Semaphore(_SLOTS)

    async def describe(
        self, model_format: ModelFormat.ValueType, files: Sequence[File], told: Callable[[float], None]
    ) -> ModelDescription:
        """Return what `files` contain; `told` takes the part of the bytes that is here.

        Raises:
            LatheError: INVALID_ARGUMENT if a file is not what the format says (INVALID_MODEL) or carries code
                (UNSAFE_MODEL); FAILED_PRECONDITION if reading it takes too much memory or time (MODEL_TOO_LARGE).
        """
        async with self._slots, temporary_folder(self._folder) as workdir:
            await self._fetch(files, workdir / _FOLDER, told)
            found = await _read(model_format, files, workdir)
        found.format = model_format
        found.size_bytes = sum(file.digest.size_bytes for file in files)
        return found

    async def _fetch(self, files: Sequence[File], folder: Path, told: Callable[[float], None]) -> None:
        slots = asyncio.Semaphore(_FETCHES)
        missing = total = sum(file.digest.size_bytes for file in files)

        async def fetch(file: File) -> None:
            nonlocal missing
            path = folder / file.path
            async with slots:
                await self._store.fetch(file.digest, path)
            missing -= file.digest.size_bytes
            told(1 - missing / max(total, 1))

        async with asyncio.TaskGroup() as group:
            for file in files:
                group.create_task(fetch(file))


def complete(description: ModelDescription, version: str) -> ModelDescription:
    """Return the stored `description` as it is answered: with the version's name and the JSON form.

    The JSON form is left empty if the answer would be too large for gRPC with it; if it still is, the longest
    list of tensors is cut.
    """
    description.model_version = version
    while description.ByteSize() > _MAX_ANSWER_BYTES:
        longest = max((graph.parameters for graph in description.graphs), key=len)
        del longest[len(longest) // 2 :]
    json = MessageToJson(description, preserving_proto_field_name=True, indent=None)
    if description.ByteSize() + len(json.encode()) <= _MAX_ANSWER_BYTES:
        description.json = json
    return description


async def _read(model_format: ModelFormat.ValueType, files: Sequence[File], workdir: Path) -> ModelDescription:
    request = {"format": word(ModelFormat, model_format), "files": [file.path for file in files], "root": _FOLDER}
    try:
        async with await Child.spawn(workdir) as child:
            result = await child.run("engines.api.description:describe", request, LIMITS)
    except EngineFailure as failure:
        raise refusal(failure) from failure
    return description_of(result)


def description_of(result: dict[str, Any]) -> ModelDescription:
    """Return what the child answered, as a message.

    Raises:
        LatheError: INVALID_ARGUMENT, reason INVALID_MODEL, if the files, which readers do not check, give a
            name that is no Unicode, or a number that no field holds.
    """
    try:
        return from_values(result, ModelDescription())
    except ParseError as error:
        message = f"The files describe themselves with impossible values: {str(error)[:300]}"
        raise invalid_argument("model_version.files", message, reason="INVALID_MODEL") from error


def refusal(failure: EngineFailure) -> LatheError | EngineFailure:
    """Return the error that a caller gets for a failure to read the files, or the failure itself if it is ours."""
    return failures.refusal(failure, _READING, _fault)


def _fault(reason: FailureReason, words: str) -> LatheError | None:
    told = REFUSED.get(reason)
    return invalid_argument("model_version.files", words, reason=told) if told else None
