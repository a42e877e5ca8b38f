"""Rules of channels against versions and evaluations, without any server."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationSpec, EvaluationTask
from lathe.registry.v1.model_service_pb2 import ModelVersion, PackageInfo
from lathe.registry.v1.release_service_pb2 import ApprovalRule, MetricBound, PromotionRules, Release
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.measurement_pb2 import (
    PARITY_MEASURE_COSINE,
    VERDICT_FAIL,
    VERDICT_PASS,
    VERDICT_UNVERIFIED,
    VERDICT_WARN,
    ParityReport,
    Verdict,
)
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskStatus

from services.platform.words import number
from services.registry.releases.rules import Finding, counted, findings, need_evaluation

VERSION = "models/digits/versions/3"
TASK = "evaluationTasks/e"
PROJECT = "projects/vision"
FLOATS = st.floats(-1e6, 1e6)


def evaluation(value: float = 0.5, *, part: str = "", dataset: str = "datasets/a") -> EvaluationTask:
    spec = EvaluationSpec(model_version=VERSION, dataset=dataset)
    task = EvaluationTask(name=TASK, project=PROJECT, spec=spec, status=TaskStatus(state=TASK_STATE_SUCCEEDED))
    task.result.metrics.add(name="top1", value=value, slice=part)
    return task


def found(rules: PromotionRules, task: EvaluationTask | None, named: str = TASK) -> list[Finding]:
    version = ModelVersion(name=VERSION, parity={"net": ParityReport(verdict=VERDICT_PASS)})
    return findings(rules, version, ["net"], Release(evaluation_task=named), task, project=PROJECT)


def last(rules: PromotionRules, task: EvaluationTask | None, named: str = TASK) -> Finding:
    return found(rules, task, named)[-1]


def test_a_channel_without_rules_lets_what_passed_through() -> None:
    assert found(PromotionRules(), None, "") == []
    assert not need_evaluation(PromotionRules(require_parity=True), TASK)
    assert need_evaluation(PromotionRules(bounds=[MetricBound(metric="top1", min=1)]), "")


def test_an_evaluation_of_another_project_does_not_count() -> None:
    task = evaluation()
    assert found(PromotionRules(require_evaluation=True), task)[0].kept
    task.project = "projects/sound"
    broken = found(PromotionRules(require_evaluation=True, bounds=[MetricBound(metric="top1", min=0)]), task)
    assert [(each.rule, each.kept) for each in broken] == [("EVALUATION", False), ("METRIC", False)]
    assert broken[0].sentence.endswith("Evaluate the version in projects/vision.")
    assert task.project not in broken[0].sentence


def test_parity_is_asked_of_every_component() -> None:
    parity = {"a": ParityReport(verdict=VERDICT_PASS), "b": ParityReport(verdict=VERDICT_WARN)}
    version = ModelVersion(name=VERSION, parity=parity)
    kept = findings(PromotionRules(require_parity=True), version, ["c", "b", "a"], Release(), None, project=PROJECT)
    assert [(each.subject, each.kept) for each in kept] == [("a", True), ("b", False), ("c", False)]
    assert kept[1].sentence == "Component 'b' has the parity verdict WARN; the channel requires PASS."
    assert "no parity report" in kept[2].sentence


@pytest.mark.parametrize(
    ("rules", "verdict", "made", "promoted", "kept"),
    [
        ({}, "WARN", "", "", False),
        ({}, "FAIL", "", "", False),
        ({}, "UNSPECIFIED", "", "", False),
        ({}, "UNVERIFIED", "", "", False),
        ({}, "UNVERIFIED", "", "ticket 1", True),
        ({"minimum_verdict": VERDICT_WARN}, "UNVERIFIED", "", "", False),
        ({"require_parity": True, "minimum_verdict": VERDICT_WARN}, "UNVERIFIED", "", "ticket 1", False),
        ({}, "WARN", "", "ticket 1", True),
        ({}, "FAIL", "", "ticket 1", True),
        ({}, "FAIL", "accuracy is judged instead", "", True),
        ({"minimum_verdict": VERDICT_WARN}, "WARN", "", "", True),
        ({"minimum_verdict": VERDICT_WARN}, "FAIL", "", "", False),
        ({"minimum_verdict": VERDICT_WARN}, "FAIL", "", "ticket 1", True),
        ({"require_parity": True}, "WARN", "", "ticket 1", False),
        ({"require_parity": True}, "FAIL", "known", "ticket 1", False),
        ({"require_parity": True, "minimum_verdict": VERDICT_WARN}, "WARN", "", "", True),
        ({"require_parity": True, "minimum_verdict": VERDICT_WARN}, "FAIL", "known", "", False),
    ],
)
def test_what_did_not_pass_is_accepted_by_name_or_by_the_channel(
    rules: dict[str, Any], verdict: str, made: str, promoted: str, kept: bool
) -> None:
    report = ParityReport(verdict=number(Verdict, verdict), waiver=made)
    version = ModelVersion(name=VERSION, parity={"net": report})
    release = Release(parity_waivers={"net": promoted} if promoted else {})
    (finding,) = findings(PromotionRules(**rules), version, ["net"], release, None, project=PROJECT)
    assert (finding.rule, finding.subject, finding.kept) == ("PARITY", "net", kept)
    assert verdict in finding.sentence
    if kept and not rules:
        assert f"accepted: {promoted or made}" in finding.sentence


def test_a_refusal_tells_the_error_and_what_to_do() -> None:
    report = ParityReport(verdict=VERDICT_FAIL, measure=PARITY_MEASURE_COSINE)
    report.outputs.add(output="y", verdict=VERDICT_FAIL, cosine=0.91)
    version = ModelVersion(name=VERSION, parity={"net": report})
    (finding,) = findings(PromotionRules(), version, ["net"], Release(), None, project=PROJECT)
    assert "FAIL (cosine 0.9100 of output 'y'), and nobody accepted it" in finding.sentence
    assert "--waive net=REASON" in finding.sentence
    assert "minimum_verdict" not in finding.sentence


def test_a_form_that_nobody_has_seen_compute_is_refused_with_what_is_missing() -> None:
    report = ParityReport(verdict=VERDICT_UNVERIFIED, missing="a run on a T4")
    version = ModelVersion(name=VERSION, parity={"net": report})
    (finding,) = findings(
        PromotionRules(minimum_verdict=VERDICT_WARN), version, ["net"], Release(), None, project=PROJECT
    )
    assert (
        "UNVERIFIED: nobody has seen it compute, and nobody accepted that. Verify it: a run on a T4" in finding.sentence
    )
    assert "minimum_verdict" not in finding.sentence


@pytest.mark.parametrize("accepted", [False, True])
def test_an_imported_evaluation_counts_where_it_is_accepted(accepted: bool) -> None:
    task = evaluation(0.9)
    task.result.imported.owner, task.result.imported.source = "ann", "run 4711"
    rules = PromotionRules(bounds=[MetricBound(metric="top1", min=0.8)], accept_imported=accepted)
    judged, bound = found(rules, task)
    assert (judged.rule, judged.subject, judged.kept) == ("EVALUATION", TASK, accepted)
    assert "imported by ann, from 'run 4711'" in judged.sentence
    assert bound.kept


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        ("cpu-x86-64", ""),
        ("nvidia-t4", "was judged on nvidia-t4, and the channel requires cpu-x86-64"),
        ("", "has no record that it was judged on a device"),
        (None, "has no record that it was judged on a device"),
    ],
)
def test_parity_may_have_to_be_of_the_device_that_the_package_is_for(judged: str | None, words: str) -> None:
    version = ModelVersion(name=VERSION, package=PackageInfo(device="cpu-x86-64"))
    if judged is not None:
        version.parity["net"].CopyFrom(ParityReport(verdict=VERDICT_PASS, device=judged))
    (finding,) = findings(PromotionRules(verified_on_device=True), version, ["net"], Release(), None, project=PROJECT)
    assert (finding.rule, finding.subject, finding.kept) == ("DEVICE", "net", not words)
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("count", "approvers", "given", "kept"),
    [
        (1, [], [], False),
        (1, [], ["ann"], False),  # who promotes it
        (1, [], ["bob"], True),
        (2, [], ["ann", "bob"], False),
        (2, [], ["bob", "cid"], True),
        (1, ["bob", "dan"], ["cid"], False),
        (2, ["bob", "dan", "ann"], ["ann", "bob", "cid"], False),
        (2, ["bob", "dan"], ["bob", "cid", "dan"], True),
    ],
)
def test_others_may_have_to_approve(count: int, approvers: list[str], given: list[str], kept: bool) -> None:
    rules = PromotionRules(approval=ApprovalRule(count=count, approvers=approvers))
    version = ModelVersion(name=VERSION)
    (finding,) = findings(rules, version, [], Release(owner="ann"), None, project=PROJECT, approved_by=given)
    assert (finding.rule, finding.subject, finding.kept) == ("APPROVAL", VERSION, kept)
    assert ("does not count" in finding.sentence) is (not kept and "ann" in given)
    named = counted(rules, "ann", given)
    assert (len(named) >= count) is kept
    assert all(who in finding.sentence for who in named)
    assert counted(PromotionRules(), "ann", given) == []


@given(value=FLOATS, low=st.none() | FLOATS, high=st.none() | FLOATS)
def test_a_bound_is_kept_between_its_ends(value: float, low: float | None, high: float | None) -> None:
    bound = MetricBound(metric="top1", min=low, max=high)
    right = (low is None or value >= low) and (high is None or value <= high)
    assert last(PromotionRules(bounds=[bound]), evaluation(value)).kept is right


def test_what_is_no_number_keeps_no_bound() -> None:
    for bound in (MetricBound(metric="top1", min=0), MetricBound(metric="top1", max=0)):
        assert not last(PromotionRules(bounds=[bound]), evaluation(math.nan)).kept


def test_a_dataset_is_compared_also_where_no_evaluation_is_required() -> None:
    rules = PromotionRules(dataset="datasets/b")
    assert found(rules, None, "") == []
    assert "is on datasets/a; the channel asks for datasets/b" in last(rules, evaluation()).sentence
    assert last(rules, evaluation(dataset="datasets/b")).kept
    uploaded = evaluation()
    uploaded.spec.images.CopyFrom(Digest(size_bytes=1))
    assert "is on uploaded images" in last(rules, uploaded).sentence


def test_what_is_absent_is_told_with_what_is_there() -> None:
    task = evaluation()
    task.result.metrics.add(name="recall/7", value=1, slice="scene=night")
    task.result.metrics.add(name="top5", value=1)
    task.result.times.latency.p99_ms = 3
    for name, part, words in (
        ("top_1", "", "has no such figure, it has top1"),
        ("recall/8", "scene=night", "it has recall/7"),
        ("recall/7", "scene=nihgt", "has no slice 'scene=nihgt', it has scene=night"),
        ("throughput", "scene=night", "has no such figure"),
        ("latency", "", "latency_p50_ms"),
    ):
        finding = last(PromotionRules(bounds=[MetricBound(metric=name, slice=part, min=0)]), task)
        assert not finding.kept
        assert words in finding.sentence
    assert last(PromotionRules(bounds=[MetricBound(metric="latency_p99_ms", max=3)]), task).kept


def test_bounds_without_an_evaluation_are_broken_one_by_one() -> None:
    rules = PromotionRules(bounds=[MetricBound(metric="a", min=1), MetricBound(metric="b", max=1)])
    assert [(each.rule, each.kept) for each in found(rules, None, "")] == [
        ("EVALUATION", False),
        ("METRIC", False),
        ("METRIC", False),
    ]
