"""The work of an import: files in, the sandboxed child, content and index out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseError
from lathe.internal.v1.selection_pb2 import FileList
from lathe.registry.v1.dataset_service_pb2 import Dataset, DatasetFormat, DatasetType, ImportReport, ValueCount
from lathe.type.v1 import failure_pb2
from lathe.type.v1.digest_pb2 import Digest, File

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Child, Limits, Progress
from services.operations.backlog import Claim
from services.operations.runner import Standing
from services.platform.words import from_values, number, to_values, word
from services.platform.work_folders import temporary_folder
from services.registry.datasets.contents import Contents
from services.storage import ContentStore
from services.tasks.worker.inputs import Inputs

LIMITS = Limits(memory_bytes=2 << 30, timeout_seconds=3600)
IMPORT = "engines.datasets.dataset_import:run"
DERIVE = "engines.datasets.derivation:run"
_PRELOAD = ("pyarrow.parquet", "PIL.Image")
# Shares of the whole.
_FETCHED, _READ = 0.1, 0.6


@dataclass(frozen=True)
class Found:
    """What an import found.

    Attributes:
        summary: A dataset with nothing but what the import says of it: report, type, format, counts, index.
        complete: False if the import waits for confirmation.
    """

    summary: Dataset = field(default_factory=Dataset)
    complete: bool = True


class ImportJob:
    """Does imports and derivations."""

    def __init__(self, content: ContentStore, contents: Contents, folder: Path) -> None:
        """Work in folders inside `folder`."""
        self._content = content
        self._contents = contents
        self._folder = folder

    async def run(self, dataset: Dataset, claim: Claim, standing: Standing) -> Found:
        """Read the files of a dataset, or derive it from others, and store what it holds.

        Raises:
            EngineFailure: It cannot be done, or not now (retryable).
        """
        async with temporary_folder(self._folder) as workdir:
            # It loads its libraries while the files come in.
            async with await Child.spawn(workdir, _PRELOAD) as child:
                await self._fetch(dataset, claim, workdir, standing)
                entry, request = _request(dataset, claim)
                standing.at(failure_pb2.TASK_STAGE_EXECUTING, _FETCHED)

                def read(progress: Progress) -> None:
                    standing.progress = _FETCHED + (_READ - _FETCHED) * progress.fraction

                result = await child.run(entry, request, LIMITS, read)
            found = _found(result)
            if found.complete:
                standing.at(failure_pb2.TASK_STAGE_UPLOADING_OUTPUTS, _READ)
                await self._store(found.summary, workdir / "out", standing)
            return found

    async def _fetch(self, dataset: Dataset, claim: Claim, workdir: Path, standing: Standing) -> None:
        files: list[tuple[str, Digest]] = [(f"files/{file.path}", file.digest) for file in dataset.files]
        files += [(file.path, file.digest) for file in _indexes(claim)]

        def fetched(part: float, _words: str) -> None:
            standing.at(failure_pb2.TASK_STAGE_FETCHING_INPUTS, _FETCHED * part)

        await Inputs(self._content, workdir, fetched).fetch(files, [])

    async def _store(self, summary: Dataset, out: Path, standing: Standing) -> None:
        def stored(count: int) -> None:
            standing.progress = _READ + (1 - _READ) * min(count / max(summary.item_count, 1), 1)

        shared = await self._contents.store(out / "content", stored)
        if shared:
            summary.report.shared_images = shared
        summary.index.CopyFrom(await self._contents.put(out / "index.parquet"))


def _indexes(claim: Claim) -> list[File]:
    """Return the indexes of a derived dataset's sources; nothing for an import of files."""
    return list(FileList.FromString(claim.row["indexes"]).files)


def _request(dataset: Dataset, claim: Claim) -> tuple[str, dict[str, Any]]:
    if dataset.HasField("derivation"):
        steps = [to_values(step) for step in dataset.derivation.steps]
        return DERIVE, {"sources": [file.path for file in _indexes(claim)], "steps": steps}
    entries = [
        {"task": entry.task, "key": entry.key, "classes": list(entry.classes), "values": dict(entry.values)}
        for entry in dataset.mapping.entries
    ]
    return IMPORT, {
        "folder": "files",
        "format": word(DatasetFormat, dataset.format) if dataset.format else "",
        "type": word(DatasetType, dataset.type) if dataset.type else "",
        "mapping": {"entries": entries},
        "accept_mismatches": claim.row["accept_mismatches"],
    }


def _found(result: Mapping[str, Any]) -> Found:
    """Return what the child says; it read what strangers wrote, so nothing of it is taken for granted."""
    try:
        summary = Dataset(
            report=from_values(result["report"], ImportReport()) if "report" in result else None,
            format=number(DatasetFormat, result.get("format") or "UNSPECIFIED"),
            type=number(DatasetType, result.get("type") or "UNSPECIFIED"),
            item_count=int(result.get("item_count", 0)),
            size_bytes=int(result.get("size_bytes", 0)),
            classes=[from_values(each, ValueCount()) for each in result.get("classes", ())],
            attributes=[from_values(each, ValueCount()) for each in result.get("attributes", ())],
        )
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        raise EngineFailure(FailureReason.INTERNAL_ERROR, f"The import's answer is not usable: {error}") from error
    return Found(summary, complete=result.get("state", "READY") == "READY")
