"""Looks through the expressions of a torch.export program, which sympy evaluates as Python when torch reads them."""

from __future__ import annotations

import ast
import json
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
_LARGEST_JSON = 512 << 20
_WRITTEN = (
    "FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural "
    "FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt "
    "RoundDecimal ToFloat Identity Symbol Integer Float Rational Add Mul Pow Max Min Abs floor ceiling sqrt "
    "Eq Ne Lt Le Gt Ge And Or Not Piecewise"
)
"""What torch writes: its own functions (`torch/_export/serde/serialize.py`), and those of sympy that compute."""
_FUNCTIONS = frozenset(_WRITTEN.split())
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
        found = next((text for text in _expressions(archive) if not _is_arithmetic(text)), None)
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


def _is_arithmetic(text: Any) -> bool:
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
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and _is_bounded(node.func.id, node.args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
        return _is_bounded("Pow", [node.left, node.right])
    if isinstance(node, ast.Constant):
        number = not isinstance(node.value, int) or abs(node.value) < _LARGEST
        return number and (isinstance(node.value, int | float | bool) or _is_symbol(node.value))
    return isinstance(node, _SHAPE)


def _is_symbol(value: object) -> bool:
    """`Symbol('s0')` names it by a text; sympy reads the text of any other call as an expression again."""
    return isinstance(value, str) and value.isidentifier()


def _is_bounded(function: str, arguments: list[ast.expr]) -> bool:
    """Whether a power or a shift has a small exponent and a base with a symbol in it: `9**9**9` never ends."""
    if function not in {"Pow", "LShift", "PowByNatural", "FloatPow"}:
        return True
    power = arguments[-1] if arguments else None
    if isinstance(power, ast.UnaryOp):
        power = power.operand
    small = isinstance(power, ast.Constant) and isinstance(power.value, int | float) and power.value <= _POWER
    return small and any(isinstance(node, ast.Name) for node in ast.walk(arguments[0]))
