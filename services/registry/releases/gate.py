"""Lets a promotion through, or says which rules of the channel are broken."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import grpc
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationTask, GetEvaluationTaskRequest
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.registry.v1.release_service_pb2 import Channel

from services.common.errors import LatheError, is_transient, unavailable
from services.registry.releases.rules import findings, need_evaluation

if TYPE_CHECKING:
    from lathe.evaluator.v1.evaluation_service_pb2_grpc import EvaluationServiceAsyncStub

# A promotion holds its channel meanwhile.
_SECONDS = 10.0


class Gate:
    """Holds promotions against the rules of their channels. Asks the evaluator only where a rule needs it."""

    def __init__(self, evaluations: EvaluationServiceAsyncStub) -> None:
        self._evaluations = evaluations

    async def check(
        self, channel: Channel, version: ModelVersion, components: Collection[str], evaluation: str
    ) -> list[str]:
        """Return the rules that are kept, a sentence each.

        Args:
            channel: The channel, with its rules.
            version: The version to be promoted.
            components: Names of the package's components.
            evaluation: The evaluation to be shown to the rules; empty for none.

        Raises:
            LatheError: FAILED_PRECONDITION, reason PROMOTION_REFUSED, with a violation for every broken rule;
                UNAVAILABLE where the evaluator does not answer.
        """
        known = None
        if evaluation and need_evaluation(channel.rules, evaluation):
            known = await self._ask(evaluation)
        found = findings(channel.rules, version, components, evaluation, known)
        broken = [each for each in found if not each.kept]
        if broken:
            raise LatheError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "PROMOTION_REFUSED",
                f"'{version.name}' breaks {len(broken)} of {len(found)} rules of '{channel.name}': "
                + " ".join(each.sentence for each in broken),
                preconditions=[(each.rule, each.subject, each.sentence) for each in broken],
            )
        return [each.sentence for each in found]

    async def _ask(self, evaluation: str) -> EvaluationTask | None:
        """Return the evaluation; None where there is none of that name."""
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
