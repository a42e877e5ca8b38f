"""How much of a form is in integers: its products, which are what quantization is for, and their weights.

A form is called INT8 if its products take integers; a ReduceMean in eight bits is not enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model
from engines.graph.quantized import PASSIVE, QDQ, integer_parameters, places_on_integers
from engines.graph.walk import all_graphs, all_nodes
from engines.quantization.compression import SMALLEST_EMBEDDING

if TYPE_CHECKING:
    import onnx

_PRODUCT = re.compile(r"\w*(Conv|MatMul|MatMulN|Gemm|Einsum|LSTM|GRU|RNN|Attention|MoE)\w*")
_TABLES = frozenset({"Gather", "GatherBlockQuantized"})
_WEIGHT_PLACES = {"Gather": 0, "GatherBlockQuantized": 0, "MatMulNBits": 1, "MatMulBnb4": 1}
"""Positions of the weights among the inputs of operators that also take indices or scales."""
_IR_PRODUCT = re.compile(r"(Group)?Convolution\w*|MatMul|(LSTM|GRU|RNN)(Cell|Sequence)|Einsum|\w*Attention\w*")
_IR_PASSIVE = frozenset({"Convert", "Reshape", "Transpose", "Squeeze", "Unsqueeze"})
_IR_SCALING = frozenset({"Multiply", "Subtract"})
_IR_INTEGERS = frozenset({"i8", "u8", "i4", "u4"})


@dataclass(frozen=True)
class Coverage:
    """How much of a form is in integers.

    Attributes:
        products: Convolutions, matrix products, recurrent layers and embeddings.
        quantized_products: Those that take integers.
        weights: Elements of their weights.
        quantized_weights: Those that are integers.
    """

    products: int = 0
    quantized_products: int = 0
    weights: int = 0
    quantized_weights: int = 0

    def __add__(self, other: Coverage) -> Coverage:
        """Return the coverage of two forms together."""
        return Coverage(
            self.products + other.products,
            self.quantized_products + other.quantized_products,
            self.weights + other.weights,
            self.quantized_weights + other.quantized_weights,
        )

    def __str__(self) -> str:
        """Return it in words: `3 of 5 products, 80 % of their weights`."""
        share = f", {self.quantized_weights / self.weights:.0%} of their weights" if self.weights else ""
        return f"{self.quantized_products} of {self.products} products{share}"

    @property
    def is_small(self) -> bool:
        """Whether most of it is in floating point."""
        return 2 * self.quantized_products < self.products or 2 * self.quantized_weights < self.weights

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form of `lathe.quantizer.v1.QuantizationCoverage`."""
        return {name: str(value) for name, value in vars(self).items()}


def coverage_of(graph: Path) -> Coverage:
    """Return the coverage of an ONNX graph, an IR of OpenVINO (.xml), or a file of LiteRT (.tflite)."""
    if graph.suffix == ".tflite":
        from engines.quantization.tflite_coverage import products_of

        products = products_of(graph.read_bytes())
        whole = sum((Coverage(1, int(each.quantized)) for each in products), Coverage())
        return whole + _summed({each.weights: (each.size, each.quantized) for each in products})
    if graph.suffix == ".xml":
        # Written by OpenVINO here, from a graph that was checked.
        return _of_ir(ElementTree.parse(graph).getroot())  # noqa: S314 - OpenVINO wrote it here
    return of_onnx(load_model(graph, weights=False))


def nothing_quantized(found: Coverage, precision: str, excluded: Collection[str]) -> EngineFailure:
    """Return the failure of a form of which no product is in integers."""
    if excluded and found.products:
        fix = f"Exclude fewer nodes: {len(excluded)} are kept in floating point."
    else:
        fix = (
            "Quantizers reach convolutions and matrix products that stand in the main graph and have constant weights: "
            "move them out of branches and loops, and make weights constants. Or choose FP16 or BF16, or keep FP32."
        )
    of = f"none of its {found.products} convolutions and products is in integers" if found.products else "it has none"
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"Nothing here can be quantized: {precision} is for convolutions, matrix products, recurrent layers and "
        f"embeddings, and {of}.",
        suggested_fix=fix,
    )


def of_onnx(model: onnx.ModelProto) -> Coverage:
    """Return the coverage of an ONNX graph, its subgraphs included."""
    tensors = {tensor.name: tensor for graph in all_graphs(model) for tensor in graph.initializer}
    nodes, integers = list(all_nodes(model)), integer_parameters(model)
    quantized = frozenset(places_on_integers(nodes, integers))
    producers = {output: node for node in nodes for output in node.output}
    found, sizes = Coverage(), dict[str, tuple[int, bool]]()
    for place, node in enumerate(nodes):
        own = dict(_weights(node, tensors, producers, integers))
        table = node.op_type in _TABLES and sum(size for size, _ in own.values()) >= SMALLEST_EMBEDDING
        if table or (_PRODUCT.fullmatch(node.op_type) and node.op_type not in QDQ):
            found += Coverage(1, int(place in quantized))
            sizes |= own
    return found + _summed(sizes)


def _weights(
    node: Any, tensors: Mapping[str, Any], producers: Mapping[str, Any], integers: frozenset[str]
) -> Iterator[tuple[str, tuple[int, bool]]]:
    """Yield the weights of a node by name: how many elements, and whether they are integers."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    only = _WEIGHT_PLACES.get(node.op_type)
    for given in node.input if only is None else node.input[only : only + 1]:
        name, through_integers = given, False
        while name not in tensors and name in producers and producers[name].op_type in PASSIVE | QDQ | {"Mul"}:
            through_integers |= producers[name].op_type in QDQ
            name = producers[name].input[0]
        if name not in tensors or len(tensors[name].dims) < 2:
            continue
        packed = 2 if attributes.get("bits") == 4 and tensors[name].data_type == 2 else 1  # two in each uint8
        yield name, (packed * math.prod(tensors[name].dims), through_integers or name in integers)


def _summed(sizes: Mapping[str, tuple[int, bool]]) -> Coverage:
    whole = sum(size for size, _ in sizes.values())
    return Coverage(weights=whole, quantized_weights=sum(size for size, integer in sizes.values() if integer))


def _of_ir(net: ElementTree.Element) -> Coverage:
    """Return the coverage of an IR, the bodies of its loops and branches included."""
    found = Coverage()
    for graph in net.iter():
        layers = {layer.get("id", ""): layer for layer in graph.findall("layers/layer")}
        sources: dict[str, list[str]] = {}
        for edge in sorted(graph.findall("edges/edge"), key=lambda edge: int(edge.get("to-port", "0"))):
            sources.setdefault(edge.get("to-layer", ""), []).append(edge.get("from-layer", ""))
        sizes: dict[str, tuple[int, bool]] = {}
        for number, layer in layers.items():
            kind, ends = layer.get("type", ""), [_end(name, layers, sources) for name in sources.get(number, ())]
            own = {name: (_elements(layers[name]), integer) for name, integer in ends if _elements(layers[name])}
            table = kind == "Gather" and sum(size for size, _ in own.values()) >= SMALLEST_EMBEDDING
            if table or _IR_PRODUCT.fullmatch(kind):
                found += Coverage(1, int(any(integer for _, integer in ends)))
                sizes |= own
        found += _summed(sizes)
    return found


def _end(name: str, layers: Mapping[str, Any], sources: Mapping[str, list[str]]) -> tuple[str, bool]:
    """Return where a value comes from, past layers that only move or scale it, and whether it was in integers there."""
    quantized = scaled = False
    while True:
        kind = layers[name].get("type", "")
        quantized |= kind == "FakeQuantize" and not scaled
        scaled |= kind in _IR_SCALING
        if kind not in _IR_PASSIVE | _IR_SCALING | {"FakeQuantize"} or not sources.get(name):
            data = layers[name].find("data")
            element = data.get("element_type", "") if data is not None and kind == "Const" else ""
            return name, quantized or element in _IR_INTEGERS
        name = sources[name][0]


def _elements(layer: ElementTree.Element) -> int:
    """Return the elements of a layer of constants with two axes or more; 0 for others."""
    data = layer.find("data")
    if layer.get("type") != "Const" or data is None:
        return 0
    extents = [int(extent) for extent in data.get("shape", "").split(",") if extent.strip()]
    return math.prod(extents) if len(extents) > 1 else 0
