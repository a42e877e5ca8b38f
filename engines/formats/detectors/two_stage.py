"""Detectors of two stages (Faster R-CNN: Ren et al., 2015) as one network: proposals, and what the second stage says.

Everything up to scores and deltas of the proposals is in the network, suppression among the proposals included, in
operators that ONNX has. It takes one image, and always returns as many proposals; places that are left are empty boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.protocol import not_installed
from engines.spec.template import Component

if TYPE_CHECKING:
    import torch

    Tensors = Sequence[torch.Tensor]

OUTPUTS = ("proposals", "scores", "boxes")
"""Proposals (1, n, 4) x, y, x, y; raw scores (1, n, classes + 1); deltas (1, n, 4) or (1, n, 4 * classes)."""


@dataclass(frozen=True)
class Proposing:
    """How the first stage finds proposals.

    Attributes:
        anchors: Of each level, x, y, x, y around a position.
        strides: Pixels between two positions of each level.
        means: Of its deltas.
        stds: Of its deltas.
        log_range: Smallest and largest logarithm of a size over its anchor's.
        candidates: Most boxes of a level that enter suppression.
        overlap: Intersection over union above which the worse box is dropped.
        count: How many proposals there are.
    """

    anchors: Tensors
    strides: Sequence[float]
    means: Sequence[float]
    stds: Sequence[float]
    log_range: tuple[float, float]
    candidates: int
    overlap: float
    count: int


@dataclass(frozen=True)
class Pooling:
    """How features are taken for a proposal: RoIAlign, as ONNX has it.

    Attributes:
        size: Height and width of the result.
        scales: Of each level, its extent over the image's.
        sampling: Samples along each side of a cell; 0 for as many as fit.
        aligned: Whether pixels' centres are shifted by half a pixel.
        level_of: Takes the square roots of areas; returns the level of each proposal, from 0, as whole numbers.
    """

    size: tuple[int, int]
    scales: Sequence[float]
    sampling: int
    aligned: bool
    level_of: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Stages:
    """The parts of a detector. Each takes the detector first, as the one that runs may be a copy.

    Attributes:
        features: Features of an image, level by level.
        first: Scores and deltas of every level, (1, anchors, h, w) and (1, 4 * anchors, h, w), for features.
        second: Scores and deltas for pooled features.
    """

    features: Callable[[Any, torch.Tensor], Tensors]
    first: Callable[[Any, Tensors], tuple[Tensors, Tensors]]
    second: Callable[[Any, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def check_batch(component: Component) -> None:
    """Refuse batches; EngineFailure INVALID_SPEC."""
    if component.largest_batch > 1:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"A detector of two stages takes one image at a time; max_batch of '{component.name}' is "
            f"{component.max_batch}.",
            suggested_fix=f"--set components.{component.name}.max_batch=1",
        )


def two_stage_network(detector: Any, stages: Stages, proposing: Proposing, pooling: Pooling) -> torch.nn.Module:
    """Return the network of a detector: image → `OUTPUTS`.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE without torchvision, whose operators suppress and pool.
    """
    import torch

    try:
        from torchvision.ops import nms, roi_align
    except (ImportError, OSError) as error:
        raise not_installed("Detectors of two stages", "torchvision", "mmdetection", _as_import(error)) from error

    class TwoStage(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = detector

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            features = stages.features(self.network, image)
            proposals = self.proposals(image, *stages.first(self.network, features))
            scores, boxes = stages.second(self.network, self.pooled(features, proposals))
            return proposals[None], scores[None], boxes[None]

        def proposals(self, image: torch.Tensor, scores: Tensors, predicted: Tensors) -> torch.Tensor:
            boxes, ranks, levels = [], [], []
            for level, (score, delta) in enumerate(zip(scores, predicted, strict=True)):
                rows = score[0].permute(1, 2, 0).reshape(-1)
                best, chosen = rows.topk(min(proposing.candidates, rows.shape[0]))
                anchors = _places(proposing.anchors[level], score, proposing.strides[level])[chosen]
                boxes.append(_decode(delta[0].permute(1, 2, 0).reshape(-1, 4)[chosen], anchors, proposing))
                ranks.append(best)
                levels.append(torch.full_like(best, float(level)))
            found = _within(torch.cat(boxes), image)
            rank, group = torch.cat(ranks), torch.cat(levels)
            whole = ((found[:, 2:] - found[:, :2]) > 0).all(1)
            rank = torch.where(whole, rank, rank.min() - 1)  # empty boxes come last, and stay empty
            found = found * whole[:, None]
            apart = found + group[:, None] * (found.max() + 1)  # boxes of one level compete alone
            kept = found[nms(apart, rank, proposing.overlap)]
            return torch.cat([kept, kept.new_zeros((proposing.count, 4))])[: proposing.count]

        def pooled(self, features: Tensors, proposals: torch.Tensor) -> torch.Tensor:
            rois = torch.cat([proposals.new_zeros((proposing.count, 1)), proposals], 1)
            sides = proposals[:, 2:] - proposals[:, :2]
            level_of = pooling.level_of((sides[:, 0] * sides[:, 1]).sqrt())
            found = proposals.new_zeros((proposing.count, features[0].shape[1], *pooling.size))
            for level, scale in enumerate(pooling.scales):
                rows = (level_of == level).nonzero()[:, 0]
                part = roi_align(features[level], rois[rows], pooling.size, scale, pooling.sampling, pooling.aligned)
                found = found.index_put((rows,), part)
            return found

    return TwoStage().eval()


def _places(anchors: torch.Tensor, scores: torch.Tensor, stride: float) -> torch.Tensor:
    """Return the anchors of a level, (positions * anchors, 4)."""
    import torch

    height, width = scores.shape[-2:]
    rows, columns = torch.arange(height) * stride, torch.arange(width) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shifts + anchors[None]).reshape(-1, 4)


def _decode(deltas: torch.Tensor, anchors: torch.Tensor, proposing: Proposing) -> torch.Tensor:
    import torch

    deltas = deltas * deltas.new_tensor(proposing.stds) + deltas.new_tensor(proposing.means)
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = (anchors[:, 2:] + anchors[:, :2]) * 0.5 + deltas[:, :2] * sizes
    extents = sizes * deltas[:, 2:].clamp(*proposing.log_range).exp()
    return torch.cat([centres - extents * 0.5, centres + extents * 0.5], 1)


def _within(boxes: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    import torch

    height, width = image.shape[-2:]
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


def _as_import(error: Exception) -> ImportError:
    return error if isinstance(error, ImportError) else ImportError(str(error))
