"""The worker side of evaluations: what a worker fetches, runs and reports."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from lathe.internal.v1.evaluation_pb2 import EvaluationOutcome, EvaluationWork
from lathe.type.v1.digest_pb2 import Digest

from services.siblings.datasets import INDEX_FILE
from services.tasks.worker.engine_work import EngineWork

ENGINE_PACKAGES = ("lathe", "numpy", "pillow", "pyarrow", "pycocotools")
"""Packages beside the device's own toolchains whose versions may change a result."""

PACKAGE_FOLDER = "package"
DATASET_FOLDER = "dataset"
IMAGES_FILE = "images.bin"


class EvaluationWorkKind(EngineWork):
    """Evaluations, as a worker of one device sees them."""

    name = "evaluation"
    entry = "engines.api.evaluation:run"
    modules = ("pyarrow.parquet", "engines.api.evaluation")
    work_type = EvaluationWork
    outcome_type = EvaluationOutcome
    outputs_dir = "report"
    packages = ENGINE_PACKAGES

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return the package's files, and the index of the dataset or the uploaded images."""
        assert isinstance(work, EvaluationWork)
        found = [(f"{PACKAGE_FOLDER}/{file.path}", file.digest) for file in work.package]
        if work.HasField("dataset"):
            found.append((f"{DATASET_FOLDER}/{INDEX_FILE}", work.dataset.index))
        if work.spec.HasField("images"):
            found.append((IMAGES_FILE, work.spec.images))
        return found

    def file_lists(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return the images or tensors of the dataset."""
        assert isinstance(work, EvaluationWork)
        return [(DATASET_FOLDER, work.dataset.files)] if work.HasField("dataset") else []
