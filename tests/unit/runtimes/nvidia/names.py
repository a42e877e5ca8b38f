"""The names of a vendor's module that code uses: `trt.BuilderFlag.INT8`, and `config.set_flag` of objects it made."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path


def used_names(files: list[Path], module: str, objects: Mapping[str, str]) -> dict[str, set[str]]:
    """Return each name that code uses, as a path from the module, with the places where it does.

    Args:
        files: Python files.
        module: The variable that holds the module.
        objects: The classes of other variables, or of attributes of `self`, by their names.
    """
    found: dict[str, set[str]] = {}
    for file in files:
        for line, path in _chains(ast.parse(file.read_text(encoding="utf-8")), module, objects):
            found.setdefault(path, set()).add(f"{file.parent.name}/{file.name}:{line}")
    return found


def _chains(tree: ast.AST, module: str, objects: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        names, root = _unrolled(node)
        if root == module:
            yield node.lineno, ".".join(names)
        elif root in objects:
            yield node.lineno, f"{objects[root]}.{names[0]}"
        elif root == "self" and len(names) > 1 and names[0] == f"_{module}":
            yield node.lineno, ".".join(names[1:])
        elif root == "self" and len(names) > 1 and names[0].removeprefix("_") in objects:
            yield node.lineno, f"{objects[names[0].removeprefix('_')]}.{names[1]}"


def _unrolled(node: ast.expr) -> tuple[list[str], str]:
    """Return the attributes of a chain, the first one first, and the variable that it begins with."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names, node.id if isinstance(node, ast.Name) else ""
