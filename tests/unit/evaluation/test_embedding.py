"""Embedding models are evaluated by the nearest neighbours."""

import numpy as np
import pytest

from engines.datasets.items import Item
from engines.evaluation.embedding import EmbeddingCollector, retrieval
from engines.evaluation.feeder import Sample
from engines.failures import EngineFailure, FailureReason
from tests.unit.evaluation.kit import Desk, identity


def ready(desk: Desk, vectors: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", kinds: list[str]) -> None:
    desk.put_package(identity({"x": ("embedding", 0)}, vectors.shape[1]), "embedding")
    rows = [{"classifications": {"kind": kind} if kind else {}, "attributes": {"of": kind or "none"}} for kind in kinds]
    desk.put_tensors({"x": vectors}, rows)


def test_retrieval_counts_the_nearest_neighbours(desk: Desk) -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 0.05], [-1, -1]], np.float32)
    ready(desk, vectors, ["a", "a", "b", "b", "b", ""])
    ran = desk.run(batch_size=2, slices=["of"])
    # The fifth lies among the first two: it finds none of its own first, and they find it.
    assert ran.figure("precision_at_1") == pytest.approx(2 / 5)
    assert ran.figure("mrr") == pytest.approx((0.5 + 0.5 + 1 + 1 + 1 / 3) / 5)
    assert ran.figure("precision_at_1", "of=b") == pytest.approx(2 / 3)
    assert [row.correct for row in ran.rows] == [False, False, True, True, False, None]
    assert ran.rows[4].loss == pytest.approx(2 / 3)
    assert ran.rows[1].vector == pytest.approx([1, 0.1])
    assert ran.report.main_metric == "precision_at_1"
    figures = ran.report.embedding
    assert figures is not None
    assert (figures.dimension, figures.retrieval_keys) == (2, ("kind",))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (units @ units.T)[~np.eye(6, dtype=bool)]
    assert figures.mean_cosine == pytest.approx(cosines.mean(), abs=1e-6)


def test_without_classes_there_are_only_statistics(desk: Desk) -> None:
    ready(desk, np.eye(3, dtype=np.float32), ["", "", ""])
    ran = desk.run()
    assert (ran.report.metrics, ran.report.main_metric) == ((), "")
    assert ran.report.embedding is not None
    with pytest.raises(EngineFailure, match="has no classification task 'kind'"):
        desk.run(class_tasks=["kind"])


def test_vectors_that_are_all_the_same_find_nothing() -> None:
    found = retrieval(np.ones((4, 3)), np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(found.nearest, 0)
    np.testing.assert_allclose(found.reciprocal_rank, 1 / 3)


def test_vectors_that_are_not_finite_find_nothing_and_are_found_last() -> None:
    vectors = np.array([[1.0, 0], [np.nan, 0], [1, 0], [0, 1]])
    found = retrieval(vectors, np.array([0, 0, 0, -1]))
    np.testing.assert_array_equal(found.nearest, [1, 0, 1, np.nan])


def test_vectors_of_different_lengths_are_rejected() -> None:
    items = [Item(f"{number}.npy", "0" * 64, 1) for number in range(2)]
    collector = EmbeddingCollector(items, (), 0)
    collector.add(Sample(0, items[0], None), {"vector": np.ones(6)}, finite=True)
    with pytest.raises(
        EngineFailure, match=r"1.npy: the model's vector has 8 values, that of the first sample 6"
    ) as told:
        collector.add(Sample(1, items[1], None), {"vector": np.ones(8)}, finite=True)
    assert told.value.reason is FailureReason.OUTPUT_MISMATCH
    assert "pooling" in told.value.suggested_fix
