"""The checks after the chaos can fail: each finds what it is there for."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from lathe.converter.v1.conversion_service_pb2 import ConversionResult, ConversionTask
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationResult, EvaluationTask, Metric
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationTask
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.digest_pb2 import Digest, File
from lathe.type.v1.measurement_pb2 import VERDICT_FAIL, VERDICT_PASS, ParityReport

from tests.chaos import remains, stored
from tests.chaos.results import SAMPLES, wrong_results

ORPHANED = "import time; time.sleep(600)"
ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{ORPHANED}'])"
NAME = "models/m/versions/1"


def package(**files: str) -> ModelVersion:
    """Return a version with these files and digests."""
    of = [File(path=path.replace("_", "."), digest=Digest(sha256=sha256)) for path, sha256 in files.items()]
    return ModelVersion(name=NAME, files=of)


def conversions(version: ModelVersion, manifest: str = "m") -> list[str]:
    """Return what is wrong with a conversion that made a version."""
    result = ConversionResult(model_version=NAME, manifest=Digest(sha256=manifest))
    found = {"conversion": [ConversionTask(name="conversionTasks/1", result=result)]}
    return list(wrong_results(found, {NAME: version}))


def test_a_process_whose_parent_has_ended_is_found() -> None:
    before = psutil.Process().children(recursive=True)
    with remains.adopting():
        subprocess.run([sys.executable, "-c", ORPHAN], check=True)
        # A server of the session may start a process of its own at any time: that is none of this test's.
        assert [each for each in remains.processes(before, patience=0.1) if ORPHANED in each]
        for each in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if each not in before and ORPHANED in each.cmdline():
                    each.kill()
        assert not [each for each in remains.processes(before, patience=60) if ORPHANED in each]


def test_a_folder_of_work_that_is_over_is_found(tmp_path: Path) -> None:
    (tmp_path / "work" / "12-34-x").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    assert remains.folders(tmp_path) == ["work/12-34-x"]


def test_a_digest_that_is_not_stored_is_found_wherever_it_stands() -> None:
    version = package(manifest_json="a", model_onnx="b")
    task = ConversionTask(name="conversionTasks/1", result=ConversionResult(manifest=Digest(sha256="a")))
    assert list(stored.digests(version)) == ["a", "b"]
    assert list(stored.missing(stored.Stored({"a"}, []), [version, task])) == [f"{NAME} names b, which is not stored"]
    assert list(stored.missing(stored.Stored({"a", "b"}, []), [version, task])) == []


def test_a_package_that_is_not_what_its_task_made_is_found() -> None:
    whole = package(manifest_json="m", provenance_intoto_jsonl="p", model_onnx="o")
    assert conversions(whole) == []
    assert conversions(whole, manifest="other") == ["conversionTasks/1: its manifest is not that of its version"]
    assert conversions(package(manifest_json="m", model_onnx="o")) == [
        "conversionTasks/1: its package lacks provenance.intoto.jsonl"
    ]
    by_an_engine = package(manifest_json="m", provenance_intoto_jsonl="p", model_onnx="o", sbom_cdx_json="s")
    assert len(conversions(by_an_engine)) == 1
    by_an_engine.parity["main"].CopyFrom(ParityReport(verdict=VERDICT_PASS))
    assert conversions(by_an_engine) == []
    by_an_engine.parity["main"].verdict = VERDICT_FAIL
    assert len(conversions(by_an_engine)) == 1


def test_an_evaluation_or_optimization_with_another_result_is_found() -> None:
    right = EvaluationResult(main_metric="top1", samples=SAMPLES, metrics=[Metric(name="top1", value=1.0)])
    wrong = EvaluationResult(main_metric="top1", samples=SAMPLES, metrics=[Metric(name="top1", value=0.9)])
    found: dict[str, list[Any]] = {
        "optimization": [OptimizationTask(name="optimizationTasks/1")],
        "evaluation": [EvaluationTask(name=name, result=each) for name, each in (("e/1", right), ("e/2", wrong))],
    }
    told = list(wrong_results(found, {}))
    assert [each.partition(":")[0] for each in told] == ["optimizationTasks/1", "optimizationTasks/1", "e/2"]
