"""Channels with rules: every one is looked at, and a refusal says each that is broken."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.internal.v1.registry_service_pb2 import ReadReleaseEvidenceRequest
from lathe.registry.v1.dataset_service_pb2 import DeleteDatasetRequest
from lathe.registry.v1.release_service_pb2 import (
    ApprovalRule,
    Channel,
    CreateChannelRequest,
    MetricBound,
    PromotionRules,
    UpdateChannelRequest,
)
from lathe.type.v1.measurement_pb2 import VERDICT_FAIL, VERDICT_UNVERIFIED, VERDICT_WARN, ParityReport, Verdict

from services.platform.settings import Settings
from services.registry.main import NEEDS, build
from tests.contract.registry.conftest import Registry
from tests.contract.registry.dataset_desk import Desk as DatasetDesk
from tests.contract.registry.dataset_desk import image_folder
from tests.contract.registry.releases.desk import Desk
from tests.in_process import serve_in_process

BOUNDS = [
    MetricBound(metric="top1", min=0.9),
    MetricBound(metric="top1", slice="scene=night", min=0.8),
    MetricBound(metric="latency_p99_ms", max=5),
    MetricBound(metric="throughput", min=100),
    MetricBound(metric="peak_memory_bytes", max=1 << 30),
]


async def test_a_promotion_that_keeps_the_rules_names_them(desk: Desk) -> None:
    model = await desk.model()
    bounds = [bound for bound in BOUNDS if bound.metric != "latency_p99_ms"]
    rules = PromotionRules(require_parity=True, require_evaluation=True, bounds=bounds)
    channel, version = await desk.channel(model, rules), await desk.package(model)
    shown = desk.evaluation(version, {"top1": 0.95}, sliced=[("top1", "scene=night", 0.81)])
    made = await desk.promote(channel, version, evaluation_task=shown)
    assert made.evaluation_task == shown
    # It stays as long as the release does.
    asked = ReadReleaseEvidenceRequest(evaluation_tasks=[shown, "evaluationTasks/other"])
    assert (await desk.registry.internal.ReadReleaseEvidence(asked)).evaluation_tasks == [shown]
    assert list(made.checks) == [
        "Component 'main' has the parity verdict PASS.",
        f"{shown} SUCCEEDED for {version}.",
        "'top1' has to be at least 0.9; it is 0.95.",
        "'top1' of scene=night has to be at least 0.8; it is 0.81.",
        "'throughput' has to be at least 100; it is 250.",
        "'peak_memory_bytes' has to be at most 1.07374e+09; it is 1.04858e+06.",
    ]


async def test_every_broken_rule_is_a_violation_of_its_own(desk: Desk) -> None:
    model = await desk.model()
    rules = PromotionRules(require_parity=True, require_evaluation=True, bounds=BOUNDS)
    channel = await desk.channel(model, rules)
    version = await desk.package(model, parity=ParityReport(verdict=VERDICT_FAIL, waiver="known rounding"))
    shown = desk.evaluation(version, {"top1": 0.85})
    refused = await desk.refused(desk.promote(channel, version, evaluation_task=shown))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROMOTION_REFUSED")
    assert refused.preconditions == [
        (
            "PARITY",
            "main",
            "Component 'main' has the parity verdict FAIL, accepted as 'known rounding', but the channel accepts "
            "no waivers; the channel requires PASS.",
        ),
        ("METRIC", "top1", "'top1' has to be at least 0.9; it is 0.85."),
        (
            "METRIC",
            "top1",
            "'top1' of scene=night has to be at least 0.8; the evaluation has no slice 'scene=night', it has none.",
        ),
        ("METRIC", "latency_p99_ms", "'latency_p99_ms' has to be at most 5; it is 9."),
    ]
    assert refused.message.startswith(f"'{version}' breaks 4 of 7 rules for '{channel}': ")
    assert (await desk.get(channel)).current_release == ""
    assert await desk.shelf.paths(channel) == []


async def test_an_evaluation_has_to_be_of_this_version_and_done(desk: Desk) -> None:
    model = await desk.model()
    channel = await desk.channel(model, PromotionRules(require_evaluation=True))
    version = await desk.package(model)
    for shown, found in (
        ("", "none was named"),
        ("evaluationTasks/none", "there is no 'evaluationTasks/none'"),
        (desk.evaluation(f"{model}/versions/77"), f"is of {model}/versions/77"),
        (desk.evaluation(version, state="TASK_STATE_RUNNING"), "is RUNNING"),
    ):
        refused = await desk.refused(desk.promote(channel, version, evaluation_task=shown))
        assert refused.reason == "PROMOTION_REFUSED"
        ((rule, _, sentence),) = refused.preconditions
        assert rule == "EVALUATION"
        assert found in sentence
    await desk.promote(channel, version, evaluation_task=desk.evaluation(version))


@pytest.mark.parametrize("verdict", [VERDICT_WARN, VERDICT_UNVERIFIED, VERDICT_FAIL])
async def test_without_rules_a_verdict_that_is_not_pass_needs_a_waiver(desk: Desk, verdict: Verdict.ValueType) -> None:
    model = await desk.model()
    channel = await desk.channel(model)
    version = await desk.package(model, parity=ParityReport(verdict=verdict))
    refused = await desk.refused(desk.promote(channel, version))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROMOTION_REFUSED")
    assert [(rule, subject) for rule, subject, _ in refused.preconditions] == [("PARITY", "main")]
    stranger = await desk.refused(desk.promote(channel, version, parity_waivers={"head": "ticket 1"}))
    assert (stranger.code, stranger.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "parity_waivers")
    made = await desk.promote(channel, version, parity_waivers={"main": "ticket 1"})
    assert dict(made.parity_waivers) == {"main": "ticket 1"}
    assert "accepted: ticket 1" in made.checks[0]
    assert dict((await desk.history(channel))[0].parity_waivers) == {"main": "ticket 1"}


async def test_a_channel_may_allow_a_warning(desk: Desk) -> None:
    model = await desk.model()
    channel = await desk.channel(model, PromotionRules(minimum_verdict=VERDICT_WARN))
    warned = await desk.package(model, parity=ParityReport(verdict=VERDICT_WARN))
    made = await desk.promote(channel, warned)
    assert list(made.checks) == ["Component 'main' has the parity verdict WARN, which the channel allows."]
    failed = await desk.package(model, parity=ParityReport(verdict=VERDICT_FAIL))
    assert (await desk.refused(desk.promote(channel, failed))).reason == "PROMOTION_REFUSED"


async def test_rules_are_changed_and_the_next_promotion_meets_them(desk: Desk) -> None:
    model = await desk.model()
    channel, version = await desk.channel(model), await desk.package(model, direct=True)
    await desk.promote(channel, version)
    rules = PromotionRules(require_parity=True)
    request = UpdateChannelRequest(
        channel=Channel(name=channel, rules=rules), update_mask=FieldMask(paths=["rules.require_parity"])
    )
    assert (await desk.releases.UpdateChannel(request)).rules == rules
    refused = await desk.refused(desk.promote(channel, version))
    assert "no parity report (it was uploaded, and no task of Lathe compared it)" in refused.message


@pytest.mark.parametrize(
    ("rules", "field", "words"),
    [
        (PromotionRules(bounds=[MetricBound(metric="top1")]), "channel.rules.bounds[0]", "neither min nor max"),
        (PromotionRules(bounds=[MetricBound(metric="top1", min=2, max=1)]), "channel.rules.bounds[0]", "min 2 over"),
        (PromotionRules(bounds=[MetricBound(metric="a", min=float("nan"))]), "channel.rules.bounds[0]", "finite"),
        (PromotionRules(bounds=[MetricBound(min=1)]), "channel.rules.bounds[0].metric", ""),
        (PromotionRules(dataset="datasets/none"), "channel.rules.dataset", "no dataset named"),
        (PromotionRules(dataset="digits"), "channel.rules.dataset", ""),
        (PromotionRules(minimum_verdict=VERDICT_FAIL), "channel.rules.minimum_verdict", ""),
        (PromotionRules(minimum_verdict=VERDICT_UNVERIFIED), "channel.rules.minimum_verdict", ""),
        (PromotionRules(approval=ApprovalRule()), "channel.rules.approval.count", ""),
        (
            PromotionRules(approval=ApprovalRule(count=2, approvers=["ann"])),
            "channel.rules.approval.count",
            "more than",
        ),
    ],
)
async def test_rules_that_no_version_can_keep_are_refused(
    desk: Desk, rules: PromotionRules, field: str, words: str
) -> None:
    model = await desk.model()
    channel = Channel(name=await desk.channel(model), display_name="Production", rules=rules)
    updates = [UpdateChannelRequest(channel=channel, update_mask=FieldMask(paths=[mask])) for mask in ("rules", "*")]
    calls: list[Awaitable[object]] = [desk.channel(model, rules, "other")]
    calls += [desk.releases.UpdateChannel(update) for update in updates]
    for call in calls:
        refused = await desk.refused(call)
        absent = rules.dataset == "datasets/none"
        code = grpc.StatusCode.NOT_FOUND if absent else grpc.StatusCode.INVALID_ARGUMENT
        assert (refused.code, refused.fields[0][0]) == (code, field)
        assert words in refused.message


async def test_the_evaluator_is_asked_only_if_a_rule_needs_it(desk: Desk, shared_settings: Settings) -> None:
    model = await desk.model()
    strict = await desk.channel(model, PromotionRules(require_evaluation=True), "strict")
    lax = await desk.channel(model, PromotionRules(require_parity=True), "lax")
    version = await desk.package(model)
    # Nobody listens on port 1.
    settings = shared_settings.model_copy(update={"evaluator_address": "127.0.0.1:1"})
    async with (
        serve_in_process("registry", build, settings, NEEDS) as address,
        grpc.aio.insecure_channel(address) as connection,
    ):
        alone = Desk(Registry(connection, desk.registry.http), {}, desk.shelf)
        refused = await alone.refused(alone.promote(strict, version, evaluation_task="evaluationTasks/x"))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert "the evaluator does not answer" in refused.message
        made = await alone.promote(lax, version, evaluation_task="evaluationTasks/x")
        assert made.evaluation_task == "evaluationTasks/x"


async def test_a_repeat_returns_the_first_channel_although_its_dataset_is_gone(desk: Desk) -> None:
    model, datasets = await desk.model(), DatasetDesk(desk.registry)
    dataset = await datasets.ready(image_folder())
    request = CreateChannelRequest(
        parent=model,
        channel=Channel(display_name="Production", rules=PromotionRules(dataset=dataset.name)),
        request_id=str(uuid.uuid4()),
    )
    first = await desk.releases.CreateChannel(request)
    await datasets.datasets.DeleteDataset(DeleteDatasetRequest(name=dataset.name))
    assert await desk.releases.CreateChannel(request) == first
