"""Reads the declaration of an architecture file without running it.

An architecture is a Python file. Its last top-level function builds and returns the network, and carries a decorator
whose only string is the class name:

    @architecture("DigitsCNN")
    def build(num_classes: int = 10) -> torch.nn.Module: ...

The registry checks files with this module; so does the frontend, before it runs one in the sandbox.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

MAX_NAME_LENGTH = 100
MAX_SOURCE_BYTES = 2**20
EXAMPLE = """\
    import torch

    class MyNetwork(torch.nn.Module):
        ...

    @architecture("MyNetwork")   # the name of the class; needs no import
    def build(num_classes: int = 10):
        return MyNetwork(num_classes)"""
_EXPECTED = f"The last function of the file builds the network, and a decorator above it gives its name:\n\n{EXAMPLE}"


class ArchitectureError(ValueError):
    """The file declares no architecture.

    Attributes:
        message: The mistake, and what was expected.
        line: Line of the fault, from 1; 0 if the whole file is meant.
        column: Column of the fault, from 1; 0 if the whole line is meant.
    """

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        place = f"line {line}, column {column}: " if line and column else f"line {line}: " if line else ""
        super().__init__(place + message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True)
class ArchitectureInfo:
    """The declaration of an architecture file.

    Attributes:
        class_name: The string of the decorator.
        function: Name of the function that builds the network.
        line: Line of its `def`, from 1.
    """

    class_name: str
    function: str
    line: int


def inspect_architecture(source: str) -> ArchitectureInfo:
    """Return what the file declares.

    Args:
        source: Text of the file, at most 1 MiB of UTF-8.

    Raises:
        ArchitectureError: The file does not parse, or its last function carries no such decorator.
    """
    tree = _parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not functions:
        raise ArchitectureError(f"The file has no top-level function. {_EXPECTED}")
    last = functions[-1]
    if isinstance(last, ast.AsyncFunctionDef):
        raise _error_at(last, f"The last function, '{last.name}', is 'async'; a plain 'def' must build the network.")
    return ArchitectureInfo(_class_name(last), last.name, last.lineno)


def _parse(source: str) -> ast.Module:
    if "\0" in source:
        line = source.count("\n", 0, source.index("\0")) + 1
        raise ArchitectureError("The file contains a null byte; it must be Python source as plain text.", line)
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        raise ArchitectureError("The file is not valid UTF-8 text.") from None
    if size > MAX_SOURCE_BYTES:
        raise ArchitectureError(f"The file has {size} bytes; at most {MAX_SOURCE_BYTES} are allowed.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        raise ArchitectureError(
            f"The file is not valid Python: {error.msg}.", error.lineno or 0, error.offset or 0
        ) from None
    except (RecursionError, MemoryError):
        raise ArchitectureError("The file is nested too deeply to be parsed; write it flatter.") from None
    except ValueError as error:
        raise ArchitectureError(f"The file is not valid Python: {error}.") from None


def _class_name(function: ast.FunctionDef) -> str:
    if not function.decorator_list:
        raise _error_at(function, f"The last function, '{function.name}', has no decorator. {_EXPECTED}")
    named = [(call, strings) for call in function.decorator_list if (strings := _strings(call))]
    if not named:
        raise _error_at(
            function.decorator_list[-1],
            f"No decorator of the last function, '{function.name}', holds a string. {_EXPECTED}",
        )
    if len(named) > 1 or len(named[0][1]) > 1:
        raise _error_at(
            named[-1][0],
            f"The decorators of '{function.name}' hold more than one string; exactly one must name the class.",
        )
    return _checked_name(named[0][1][0])


def _strings(decorator: ast.expr) -> list[ast.Constant]:
    """Return the string arguments of a decorator call."""
    if not isinstance(decorator, ast.Call):
        return []
    values = [*decorator.args, *(keyword.value for keyword in decorator.keywords)]
    return [value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def _checked_name(node: ast.Constant) -> str:
    name = str(node.value)
    if len(name) > MAX_NAME_LENGTH:
        raise _error_at(node, f"The class name has {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed.")
    if not (name.isascii() and name.isidentifier()):
        raise _error_at(
            node,
            f"The class name {name!r} is not an identifier; use ASCII letters, digits and underscores, no digit first.",
        )
    return name


def _error_at(node: ast.expr | ast.FunctionDef | ast.AsyncFunctionDef, message: str) -> ArchitectureError:
    return ArchitectureError(message, node.lineno, node.col_offset + 1)
