"""Looks through the expressions of a torch.export program, which sympy evaluates as Python when torch reads them."""

from __future__ import annotations

import ast
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.torch_files.archives import opened

_LONGEST = 4096
_LARGEST = 1 << 64
_POWER = 64
_DIGITS = 1024
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d{1,3})?")
_LARGEST_JSON = 512 << 20
_WRITTEN = (
    "FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural "
    "FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt "
    "RoundDecimal ToFloat Identity Symbol Integer Float Rational Add Mul Pow Max Min Abs floor ceiling sqrt "
    "Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan "
    "And Or Not ITE Piecewise ExprCondPair"
)
"""What torch writes: its own functions (`torch/_export/serde/serialize.py`), and those of sympy as `srepr` has them."""
_FUNCTIONS = frozenset(_WRITTEN.split())
_CONSTANTS = frozenset({"Integer", "Rational", "Float"})
_SHAPE = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop),
    *(ast.cmpop, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.Tuple),
)


def check_expressions(path: Path) -> None:
    """Refuse a program with an expression that is more than arithmetic over symbols.

    Raises:
        EngineFailure: UNSAFE_MODEL naming the expression; INVALID_MODEL for an archive that is damaged.
    """
    with opened(path, "a torch.export program") as archive:
        found = next((text for text in _expressions(archive) if not is_arithmetic(text)), None)
    if found is not None:
        raise EngineFailure(
            FailureReason.UNSAFE_MODEL,
            f"The program '{path.name}' states an extent by '{str(found)[:200]}', which is no arithmetic of symbols, "
            "and which reading would run; it was not loaded.",
            suggested_fix="Upload the file that torch.export.save wrote, unchanged.",
        )


def _expressions(archive: zipfile.ZipFile) -> Iterator[Any]:
    """Yield each `expr_str`; every entry counts, as an archive may have several of one name."""
    found: list[Any] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.extend(value for key, value in pairs if key == "expr_str")

    for entry in archive.infolist():
        if entry.filename.endswith(".json"):
            if entry.file_size > _LARGEST_JSON:
                raise ValueError(f"its entry {entry.filename} is larger than that of any network")
            json.loads(archive.read(entry), object_pairs_hook=note)
            yield from found
            found.clear()


def is_arithmetic(text: Any) -> bool:
    """Whether a text is arithmetic over symbols that ends."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(map(_is_harmless, nodes))


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and _is_bounded(node.func.id, node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
        return _is_small_power(node.left, node.right)
    if isinstance(node, ast.Constant):
        number = not isinstance(node.value, int) or abs(node.value) < _LARGEST
        return number and (isinstance(node.value, int | float | bool) or _is_plain(node.value))
    return isinstance(node, _SHAPE)


def _is_plain(value: object) -> bool:
    """Whether a text is a name or a number: sympy reads texts as expressions again, but that of a symbol."""
    return isinstance(value, str) and (value.isidentifier() or _NUMBER.fullmatch(value) is not None)


def _is_bounded(function: str, call: ast.Call) -> bool:
    if function in {"Pow", "LShift", "PowByNatural", "FloatPow"}:
        return len(call.args) == 2 and _is_small_power(*call.args)
    if function == "Float":
        precisions = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
        return all((_number(each) or 0) <= _DIGITS for each in precisions)
    return True


def _is_small_power(base: ast.expr, power: ast.expr) -> bool:
    """Whether a power or a shift has a small exponent and a base with a symbol in it: `9**9**9` never ends."""
    exponent = _number(power)
    symbols = any(isinstance(node, ast.Name) and node.id not in _FUNCTIONS - {"Symbol"} for node in ast.walk(base))
    return exponent is not None and abs(exponent) <= _POWER and symbols


def _number(node: ast.expr) -> float | None:
    """Return the first number of `2`, `-2`, `Integer(2)`, `Rational(1, 2)` or `Float('2.0', precision=53)`."""
    if isinstance(node, ast.UnaryOp):
        return _number(node.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CONSTANTS and node.args:
        return _number(node.args[0])
    if not isinstance(node, ast.Constant):
        return None
    if isinstance(node.value, str):
        return float(node.value) if _NUMBER.fullmatch(node.value) else None
    return node.value if isinstance(node.value, int | float) else None
