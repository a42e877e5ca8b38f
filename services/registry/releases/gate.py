"""Accepts a promotion, or says which rules of the channel it breaks."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import grpc
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationTask, GetEvaluationTaskRequest
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.registry.v1.release_service_pb2 import Channel, Release

from services.platform.errors import LatheError, invalid_argument, is_transient, unavailable
from services.registry.releases.rules import findings, need_evaluation

if TYPE_CHECKING:
    from lathe.evaluator.v1.evaluation_service_pb2_grpc import EvaluationServiceAsyncStub

# A promotion holds its channel while it waits.
_SECONDS = 10.0


class Gate:
    """Checks promotions against the rules of their channels. Asks the evaluator only if a rule needs it."""

    def __init__(self, evaluations: EvaluationServiceAsyncStub) -> None:
        self._evaluations = evaluations

    async def check(  # noqa: PLR0917 - what a promotion is judged by
        self,
        channel: Channel,
        version: ModelVersion,
        components: Collection[str],
        release: Release,
        approved_by: Collection[str],
        project: str,
    ) -> list[str]:
        """Return the rules that the promotion keeps, a sentence each.

        Args:
            channel: The channel, with its rules.
            version: The version to be promoted.
            components: Names of the package's components.
            release: The release to make: it names its owner, the evaluation that the rules look at, and the waivers.
            approved_by: Who has approved the version for the channel.
            project: Where the channel is.

        Raises:
            LatheError: INVALID_ARGUMENT for a waiver of a component that the package does not have;
                FAILED_PRECONDITION, reason PROMOTION_REFUSED, with a violation for every broken rule; UNAVAILABLE if
                the evaluator does not answer.
        """
        for name in release.parity_waivers:
            if name not in components:
                has = f"the package has {', '.join(sorted(components))}"
                raise invalid_argument("parity_waivers", f"No component is named '{name}'; {has}.")
        known, named = None, release.evaluation_task
        if named and need_evaluation(channel.rules, named):
            known = await self._ask(named)
        found = findings(channel.rules, version, components, release, known, project=project, approved_by=approved_by)
        broken = [each for each in found if not each.kept]
        if broken:
            raise LatheError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "PROMOTION_REFUSED",
                f"'{version.name}' breaks {len(broken)} of {len(found)} rules for '{channel.name}': "
                + " ".join(each.sentence for each in broken),
                preconditions=[(each.rule, each.subject, each.sentence) for each in broken],
            )
        return [each.sentence for each in found]

    async def _ask(self, evaluation: str) -> EvaluationTask | None:
        """Return the evaluation; None if there is none of that name."""
        try:
            return await self._evaluations.GetEvaluationTask(
                GetEvaluationTaskRequest(name=evaluation), timeout=_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            if is_transient(error.code()):
                raise unavailable(
                    "evaluator",
                    f"The channel's rules need '{evaluation}', and the evaluator does not answer. Try again later.",
                ) from error
            raise
