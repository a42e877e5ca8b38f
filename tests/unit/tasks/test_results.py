"""The digests of a message, by which the members of a project read what their tasks made."""

from __future__ import annotations

from lathe.converter.v1.conversion_service_pb2 import ConversionTask
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationResult
from lathe.type.v1.digest_pb2 import Digest, File

from services.siblings.results import digests_in


def test_every_digest_of_a_message_is_found() -> None:
    result = OptimizationResult(files=[File(path=name, digest=Digest(sha256=name)) for name in "ab"])
    result.manifest.sha256 = "c"
    result.html_report.sha256 = "d"
    assert sorted(each.sha256 for each in digests_in(result)) == ["a", "b", "c", "d"]


def test_maps_and_texts_have_none() -> None:
    task = ConversionTask(name="conversionTasks/x", labels={"team": "a"})
    task.spec.parity_waivers["net"] = "ann"
    task.spec.samples.sha256 = "e"
    assert [each.sha256 for each in digests_in(task)] == ["e"]
