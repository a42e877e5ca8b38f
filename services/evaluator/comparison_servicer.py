"""The methods of EvaluationService that no other task service has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationComparison, ListEvaluationComparisonsResponse

from services.evaluator.comparisons import Comparisons
from services.tasks.api.servicer import Unary


class ComparisonServicer:
    """Serves comparisons, beside the verbs of tasks."""

    def __init__(self, comparisons: Comparisons) -> None:
        self._comparisons = comparisons

    @property
    def methods(self) -> Mapping[str, Unary]:
        """The methods by name."""
        own = (self.CompareEvaluations, self.GetEvaluationComparison, self.ListEvaluationComparisons)
        return {method.__name__: method for method in own}

    async def CompareEvaluations(self, request: Any, _context: Any) -> EvaluationComparison:
        """Compare evaluations."""
        return await self._comparisons.compare(request)

    async def GetEvaluationComparison(self, request: Any, _context: Any) -> EvaluationComparison:
        """Return a comparison."""
        return await self._comparisons.get(request.name)

    async def ListEvaluationComparisons(self, request: Any, _context: Any) -> ListEvaluationComparisonsResponse:
        """Return a page of comparisons."""
        comparisons, token = await self._comparisons.list(request)
        return ListEvaluationComparisonsResponse(comparisons=comparisons, next_page_token=token)
