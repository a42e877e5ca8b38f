"""The worker side of profiles: what a worker fetches, runs and reports."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from lathe.internal.v1.profile_pb2 import ProfileOutcome, ProfileWork
from lathe.type.v1.digest_pb2 import Digest

from engines.spec.source_files import TEST_DATA
from services.tasks.worker.engine_work import READING_PACKAGES, EngineWork

PACKAGE_FOLDER = "package"


class ProfileWorkKind(EngineWork):
    """Profiles, as a worker of one device sees them."""

    name = "profile"
    entry = "engines.api.profiling:run"
    modules = ("torch.onnx", "engines.api.profiling")
    work_type = ProfileWork
    outcome_type = ProfileOutcome
    outputs_dir = "report"
    packages = READING_PACKAGES

    def inputs(self, work: Message) -> Sequence[tuple[str, Digest]]:
        """Return the files of the package or of the source, and the user's arrays."""
        assert isinstance(work, ProfileWork)
        found = [(f"{PACKAGE_FOLDER}/{file.path}", file.digest) for file in work.package]
        found += [(entry.path, entry.digest) for entry in work.conversion.inputs]
        if work.spec.HasField("test_data"):
            found.append((TEST_DATA, work.spec.test_data))
        return found
