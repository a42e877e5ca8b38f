"""Which quantized nodes cost most: quantization noise per node, and what each does to the graph's outputs on its own.

The quantized graph and the floating-point graph share the names of most values: every quantizer puts
nodes between values, and keeps the values. Between shared values the quantized graph falls into pieces (see `pieces`);
one with quantization in it is a quantized node. Each piece is looked at alone, with its inputs taken from the
floating-point run, so that a node is not blamed for the noise of those before it:

    own      SQNR at the node's output: 10 log10(sum f² / sum (q - f)²) over all feeds, f the floating-point value
    effect   SQNR at the model's worst output when that node alone is quantized

Noise at a node's own output says little about a network: it may be averaged away or blown up behind it. The effect
takes the rest of the network into account, so it decides the order wherever the budget allows measuring it. MiniLM
quantized by ONNX Runtime (48 products, cosine 0.946), the cosine after leaving the worst nodes in floating point:

    nodes left                          1      2      4      8     16
    by effect                       0.968  0.981  0.989  0.995  0.998
    by own noise                    0.947  0.950  0.973  0.991  0.995
    by noise that has accumulated   0.949  0.945  0.945  0.948  0.948
    at random                       0.947  0.948  0.956  0.957  0.976

Accumulated noise grows with the depth alone, so it is not offered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.quantization.piece_noise import Noise, effects, own_noise, switched
from engines.quantization.pieces import Piece, cut
from engines.tensors import Arrays

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

PIECES_AT_A_TIME = 16
"""Nodes whose inputs and outputs are in memory at once."""
BUDGET_SECONDS = 120.0
"""Longest time for which effects are measured; nodes then are ordered by their own noise."""


@dataclass(frozen=True)
class NodeSensitivity:
    """The error of one quantized node.

    Attributes:
        node: Name of the node in the floating-point graph.
        operator: Its operator type.
        sqnr_db: SQNR at its output, its inputs taken from the floating-point run, in decibels, at most 200.
        effect_db: SQNR at the model's worst output when this node alone is quantized; None if it was not measured.
    """

    node: str
    operator: str
    sqnr_db: float
    effect_db: float | None = None

    @property
    def cost_db(self) -> float:
        """The figure that decides the order: the effect if it was measured, else the node's own."""
        return self.sqnr_db if self.effect_db is None else self.effect_db

    def to_dict(self) -> dict[str, str | float]:
        """Return the fields of the API's NodeSensitivity."""
        return {"node": self.node, "operator": self.operator, "sqnr_db": self.sqnr_db}


def sensitivities(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    feeds: Sequence[Arrays],
    budget_seconds: float = BUDGET_SECONDS,
) -> list[NodeSensitivity]:
    """Return every quantized node, the most sensitive first.

    Args:
        float_model: The graph that was quantized.
        quantized_model: The quantized graph, as ONNX.
        feeds: Inputs by name; a few are enough.
        budget_seconds: Longest time for measuring effects; 0 leaves them out.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED if ONNX Runtime cannot run one of the graphs.
        ValueError: without a feed.
    """
    if not feeds:
        raise ValueError("sensitivities are measured on at least one feed")
    pieces = cut(float_model, quantized_model)
    own: list[Noise] = []
    for start in range(0, len(pieces), PIECES_AT_A_TIME):
        own += own_noise(float_model, quantized_model, pieces[start : start + PIECES_AT_A_TIME], feeds)
    measured = _effects(float_model, quantized_model, pieces, feeds, budget_seconds)
    found: dict[str, NodeSensitivity] = {}
    for position, piece in enumerate(pieces):
        sqnr, effect = own[position].decibels(), measured[position].decibels() if measured else None
        for node in piece.stands_for:
            name = node.name or node.output[0]
            before = found.get(name)
            if before is not None:
                sqnr = min(sqnr, before.sqnr_db)
                effect = None if effect is None or before.effect_db is None else min(effect, before.effect_db)
            found[name] = NodeSensitivity(name, node.op_type, sqnr, effect)
    return sorted(found.values(), key=lambda entry: (entry.cost_db, entry.node))


def _effects(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    pieces: Sequence[Piece],
    feeds: Sequence[Arrays],
    budget_seconds: float,
) -> list[Noise] | None:
    if not pieces or budget_seconds <= 0:
        return None
    both = switched(float_model, quantized_model, pieces)
    measured = effects(both, len(pieces), feeds, budget_seconds) if both else None
    if measured is None:
        log.info("The nodes are ordered by their own noise: measuring their effect on the outputs takes too long")
    return measured
