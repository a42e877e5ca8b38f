"""Checks a version and an evaluation against a channel's rules for promotions. Pure: every rule is checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationTask
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.registry.v1.release_service_pb2 import PromotionRules, Release
from lathe.type.v1.measurement_pb2 import (
    PARITY_MEASURE_COSINE,
    VERDICT_PASS,
    VERDICT_UNVERIFIED,
    VERDICT_WARN,
    ParityReport,
    Verdict,
)
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskState

from services.platform.errors import invalid_argument
from services.platform.words import word
from services.registry.releases.bounds import asked_of, figures, judge

_RULES = "channel.rules"


@dataclass(frozen=True)
class Finding:
    """One rule: its kind, what it is about, and what was found.

    Kinds are `PARITY`, `DEVICE`, `APPROVAL`, `EVALUATION`, `DATASET` and `METRIC`.
    """

    rule: str
    subject: str
    kept: bool
    sentence: str


def check_rules(rules: PromotionRules) -> None:
    """Refuse rules that no version can keep: LatheError INVALID_ARGUMENT naming the field."""
    asked = rules.approval
    if asked.approvers and asked.count > len(asked.approvers):
        raise invalid_argument(
            f"{_RULES}.approval.count",
            f"{asked.count} approvals are more than the {len(asked.approvers)} named approvers can give.",
        )
    for index, bound in enumerate(rules.bounds):
        field = f"{_RULES}.bounds[{index}]"
        ends = ([bound.min] if bound.HasField("min") else []) + ([bound.max] if bound.HasField("max") else [])
        if not ends:
            raise invalid_argument(field, f"The bound of '{bound.metric}' has neither min nor max; give one or both.")
        if not all(math.isfinite(value) for value in ends):
            raise invalid_argument(field, f"The bound of '{bound.metric}' is not a finite number.")
        if len(ends) == 2 and bound.min > bound.max:
            raise invalid_argument(
                field,
                f"The bound of '{bound.metric}' has min {bound.min:g} over max {bound.max:g}; no figure can keep it.",
            )


def need_evaluation(rules: PromotionRules, named: str) -> bool:
    """Return whether the rules cannot be judged without the evaluation."""
    return rules.require_evaluation or len(rules.bounds) > 0 or bool(rules.dataset and named)


def findings(
    rules: PromotionRules,
    version: ModelVersion,
    components: Collection[str],
    release: Release,
    evaluation: EvaluationTask | None,
    *,
    project: str,
    approved_by: Collection[str] = (),
) -> list[Finding]:
    """Return the finding of every rule: the channel's rules, and the rule that somebody has to accept what is no PASS.

    Args:
        rules: The channel's.
        version: The version to be promoted.
        components: Names of the package's components.
        release: The release to make: it says who makes it, may name an evaluation, and accept verdicts.
        evaluation: That evaluation; None if there is none of that name.
        project: The channel's: evaluations of others do not count.
        approved_by: Who has approved the version for the channel.
    """
    named, waivers = release.evaluation_task, release.parity_waivers
    found = [each for name in sorted(components) if (each := _parity(rules, version, name, waivers.get(name, "")))]
    if rules.verified_on_device:
        found += [_device(version, name) for name in sorted(components)]
    if rules.HasField("approval"):
        found.append(_approval(rules, version, release.owner, approved_by))
    if need_evaluation(rules, named):
        found += _evaluation(rules, version, named, evaluation, project)
    return found


def _parity(rules: PromotionRules, version: ModelVersion, name: str, waiver: str) -> Finding | None:
    """Return the finding about a component's parity; None if the verdict is PASS and no rule asks."""
    report = version.parity.get(name)
    allows_warn = rules.minimum_verdict == VERDICT_WARN
    if report is None or report.verdict == VERDICT_PASS:
        return _required(version, name, report) if rules.require_parity else None
    has, accepted = (
        f"Component '{name}' has the parity verdict {word(Verdict, report.verdict)}",
        waiver or report.waiver,
    )
    if report.verdict == VERDICT_WARN and allows_warn:
        kept, sentence = True, f"{has}, which the channel allows."
    elif rules.require_parity:
        waived = f", accepted as '{accepted}', but the channel accepts no waivers" if accepted else ""
        kept, sentence = False, f"{has}{waived}; the channel requires {'PASS or WARN' if allows_warn else 'PASS'}."
    elif accepted:
        kept, sentence = True, f"{has}, accepted: {accepted}."
    elif report.verdict == VERDICT_UNVERIFIED:
        fix = f"Verify it: {report.missing}; or name a reason in parity_waivers (--waive {name}=REASON)."
        kept, sentence = False, f"{has}: nobody has seen it compute, and nobody accepted that. {fix}"
    else:
        allow = " let the channel allow WARN (minimum_verdict)," if report.verdict == VERDICT_WARN else ""
        fix = f"Name a reason in parity_waivers (--waive {name}=REASON),{allow} or make a version that passes."
        kept, sentence = False, f"{has}{_figures(report)}, and nobody accepted it. {fix}"
    return Finding("PARITY", name, kept, sentence)


def _required(version: ModelVersion, name: str, report: ParityReport | None) -> Finding:
    if report is not None:
        return Finding("PARITY", name, True, f"Component '{name}' has the parity verdict PASS.")
    why = " (it was uploaded, and no task of Lathe compared it)" if version.package.directly_uploaded else ""
    sentence = f"Component '{name}' needs the parity verdict PASS; {version.name} has no parity report{why}."
    return Finding("PARITY", name, False, sentence)


def _device(version: ModelVersion, name: str) -> Finding:
    judged, meant = version.parity[name].device if name in version.parity else "", version.package.device
    if judged and judged == meant:
        return Finding("DEVICE", name, True, f"Component '{name}' was judged on {meant}.")
    where = f"was judged on {judged}" if judged else "has no record that it was judged on a device"
    sentence = f"Component '{name}' {where}, and the channel requires {meant or 'the device of the package'}. "
    return Finding("DEVICE", name, False, sentence + "Make the version again on a worker for that device.")


def counted(rules: PromotionRules, promoter: str, approved_by: Collection[str]) -> list[str]:
    """Return whose approvals count for a promotion; nobody's if the rules ask for none."""
    named = rules.approval.approvers
    others = sorted(who for who in approved_by if who != promoter and (not named or who in named))
    return others if rules.HasField("approval") else []


def _approval(rules: PromotionRules, version: ModelVersion, promoter: str, approved_by: Collection[str]) -> Finding:
    asked, given = rules.approval, counted(rules, promoter, approved_by)
    people = f"of {', '.join(asked.approvers)}" if asked.approvers else "of somebody else than who promotes it"
    said = f"{version.name} has {len(given)} of {asked.count} approvals {people}"
    if len(given) >= asked.count:
        return Finding("APPROVAL", version.name, True, f"{said}: {', '.join(given)}.")
    own = " An approval of one's own does not count." if promoter in approved_by else ""
    sentence = f"{said}{': ' + ', '.join(given) if given else ''}.{own} They approve it with ApproveModelVersion."
    return Finding("APPROVAL", version.name, False, sentence)


def _figures(report: ParityReport) -> str:
    """Return the error of the worst output in words; empty if the report does not say it."""
    worst = next((output for output in report.outputs if output.verdict == report.verdict), None)
    if worst is None:
        return ""
    if worst.remark:
        return f" (output '{worst.output}': {worst.remark})"
    if report.measure == PARITY_MEASURE_COSINE:
        return f" (cosine {worst.cosine:.4f} of output '{worst.output}')"
    return f" (relative error {worst.max_rel_error:.3g} of output '{worst.output}')"


def _evaluation(
    rules: PromotionRules, version: ModelVersion, named: str, evaluation: EvaluationTask | None, project: str
) -> Iterator[Finding]:
    broken = _unusable(version, named, evaluation, project)
    if broken or evaluation is None:
        yield Finding("EVALUATION", named or version.name, False, broken)
        for bound in rules.bounds:
            sentence = f"{asked_of(bound)}; there is no evaluation to find it in."
            yield Finding("METRIC", bound.metric, False, sentence)
        return
    yield _origin(rules, version, evaluation)
    if rules.dataset:
        used = evaluation.spec.dataset or ("uploaded images" if evaluation.spec.HasField("images") else "no dataset")
        kept = used == rules.dataset
        sentence = f"{named} is on {used}" + ("." if kept else f"; the channel asks for {rules.dataset}.")
        yield Finding("DATASET", rules.dataset, kept, sentence)
    known = figures(evaluation.result)
    for bound in rules.bounds:
        kept, sentence = judge(bound, known)
        yield Finding("METRIC", bound.metric, kept, sentence)


def _origin(rules: PromotionRules, version: ModelVersion, evaluation: EvaluationTask) -> Finding:
    kept, sentence = True, f"{evaluation.name} SUCCEEDED for {version.name}."
    if evaluation.result.HasField("imported"):
        origin = evaluation.result.imported
        kept = rules.accept_imported
        sentence = f"{evaluation.name} of {version.name} was imported by {origin.owner}, from '{origin.source}'"
        sentence += (
            "." if kept else "; the channel counts Lathe's own alone (accept_imported). Evaluate the version here."
        )
    return Finding("EVALUATION", evaluation.name, kept, sentence)


def _unusable(version: ModelVersion, named: str, evaluation: EvaluationTask | None, project: str) -> str:
    """Return why an evaluation cannot be used for a version; empty if it can."""
    required = f"A SUCCEEDED evaluation of {version.name} is needed"
    if not named:
        return f"{required}; none was named. Evaluate the version and name the task in `evaluation_task`."
    if evaluation is None:
        return f"{required}; there is no '{named}'."
    if evaluation.project != project:
        return (
            f"{required}; {named} is in another project than the channel, whose members may not see it. Evaluate "
            f"the version in {project}."
        )
    if evaluation.spec.model_version != version.name:
        return f"{required}; {named} is of {evaluation.spec.model_version}."
    if evaluation.status.state != TASK_STATE_SUCCEEDED:
        return f"{required}; {named} is {word(TaskState, evaluation.status.state)}."
    return ""
