"""Element types that ONNX's operator schemas allow, and so which values of a node can be in half precision.

A schema types its inputs and outputs by variables (`T` of Conv: float16, float, double, bfloat16) or fixed types (the
scales of Resize: float).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAIN = ("", "ai.onnx")
FLOAT = "tensor(float)"
UNKNOWN = "?"
"""Type of a value without a schema: of an operator of another domain."""


@dataclass(frozen=True)
class Formal:
    """One input or output of an operator in its schema.

    Attributes:
        variable: Name of the type variable; the type itself if it is fixed.
        allowed: Types that it may have.
    """

    variable: str
    allowed: frozenset[str]


@dataclass(frozen=True)
class OperatorTypes:
    """Types of an operator's inputs and outputs; the last of each repeats if the operator is variadic."""

    inputs: tuple[Formal, ...]
    outputs: tuple[Formal, ...]
    variadic_inputs: bool
    variadic_outputs: bool

    def input(self, position: int) -> Formal | None:
        """Return the input at a position."""
        return _at(self.inputs, position, self.variadic_inputs)

    def output(self, position: int) -> Formal | None:
        """Return the output at a position."""
        return _at(self.outputs, position, self.variadic_outputs)


@functools.cache
def operator_types(operator: str, domain: str, opset: int) -> OperatorTypes | None:
    """Return the types of an operator; None if no schema is known, or it is experimental."""
    import onnx

    try:
        schema = onnx.defs.get_schema(operator, opset, "" if domain in MAIN else domain)
    except onnx.defs.SchemaError:
        return None
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    inputs, outputs = list(schema.inputs), list(schema.outputs)
    return OperatorTypes(
        tuple(Formal(formal.type_str, frozenset(formal.types)) for formal in inputs),
        tuple(Formal(formal.type_str, frozenset(formal.types)) for formal in outputs),
        bool(inputs) and inputs[-1].option == variadic,
        bool(outputs) and outputs[-1].option == variadic,
    )


def type_name(element: int) -> str:
    """Return a tensor's type as schemas write it, for an element type of TensorProto."""
    import onnx

    names = {"FLOAT": "float", "DOUBLE": "double"}
    name = onnx.TensorProto.DataType.Name(element)
    return f"tensor({names.get(name, name.lower())})"


def output_types(node: Any, types: OperatorTypes, known: Mapping[str, str]) -> list[str]:
    """Return the types of a node's outputs, given those of the values that it reads."""
    bound: dict[str, str] = {}
    for position, name in enumerate(node.input):
        formal = types.input(position)
        if name and formal and known.get(name, UNKNOWN) != UNKNOWN:
            bound.setdefault(formal.variable, known[name])
    stated = _stated(node)
    return [_output_type(types.output(position), bound, stated) for position in range(len(node.output))]


def _output_type(formal: Formal | None, bound: Mapping[str, str], stated: str) -> str:
    if formal is None:
        return UNKNOWN
    if formal.variable in bound:
        return bound[formal.variable]
    if len(formal.allowed) == 1:
        return next(iter(formal.allowed))
    return stated


def _stated(node: Any) -> str:
    """Return the output type that an attribute states; float if the attribute is optional and absent, else unknown."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    for name in ("to", "dtype", "output_dtype", "output_datatype"):
        if name in attributes and attributes[name].i:
            return type_name(attributes[name].i)
    if "value" in attributes and attributes["value"].HasField("t"):
        return type_name(attributes["value"].t.data_type)
    if node.op_type == "Constant":
        return FLOAT if {"value_float", "value_floats"} & attributes.keys() else UNKNOWN
    floats = {"ConstantOfShape", "RandomNormal", "RandomUniform", "HannWindow", "HammingWindow", "BlackmanWindow"}
    return FLOAT if node.op_type in floats else UNKNOWN


def _at(formals: tuple[Formal, ...], position: int, variadic: bool) -> Formal | None:
    if position < len(formals):
        return formals[position]
    return formals[-1] if variadic else None
