"""Looks through configurations of MMDetection without running them, which are Python files.

What a configuration may do is small: assign values, build on other configurations, import classes of the toolbox. Here
whatever goes beyond that is refused with its line. The file itself runs in the sandbox only (`toolbox.py`), which
contains what no parser sees.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.formats.detectors.uploads import LARGEST_CONFIG, base_inside, read_config, the_checkpoint, the_config

_TOOLBOX = frozenset({"mmcv", "mmdet", "mmengine", "torch"})
_IMPORTED = _TOOLBOX | {"copy", "math"}
"""Packages that a configuration may import: the toolbox's, and two that compute."""
_CALLED = frozenset(
    {"__import__", "breakpoint", "compile", "delattr", "eval", "exec", "getattr", "globals", "input", "locals", "open"}
) | {"setattr", "vars"}
"""Functions of Python that no configuration needs."""
_SCOPE = "mmdet::"
ADVICE = (
    "Upload the whole configuration as one file, the one that training writes into its work_dir or "
    "cfg.dump('config.py') does; or the files that it builds on, in folders that keep their relative paths. For "
    "MMDetection's own, write _base_ = 'mmdet::…'."
)
_NO_WEIGHTS = "Upload the checkpoint, a file that training or torch.save wrote, together with the configuration."


@dataclass(frozen=True)
class DetectorFiles:
    """The files of a detector.

    Attributes:
        config: The configuration.
        checkpoint: The checkpoint.
        modules: Modules that `custom_imports` names and that are uploaded, each with the folder to import it from.
    """

    config: Path
    checkpoint: Path
    modules: tuple[tuple[str, Path], ...] = ()


@dataclass(frozen=True)
class _Parsed:
    """What one configuration says of others: files that it builds on, and modules with their folders."""

    bases: tuple[Path, ...]
    modules: tuple[tuple[str, Path], ...]


def is_config(path: Path) -> bool:
    """Return whether a Python file is a configuration of MMDetection: it assigns a model's dictionary, or a base."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            return False
        tree = _tree(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    return any(_marks(node) for node in tree.body)


def find(root: Path, named: str = "") -> DetectorFiles:
    """Return the files of the detector in an upload, every configuration of it looked through.

    Args:
        root: The folder of the upload.
        named: Path of the checkpoint or of the configuration, if the upload has several.

    Raises:
        EngineFailure: INVALID_MODEL or INVALID_SPEC for files that are missing or not one of a kind; UNSAFE_MODEL, with
            the line, for whatever a configuration does beyond saying what the detector is.
    """
    configs = [path for path in sorted(root.rglob("*.py")) if path.is_file() and is_config(path)]
    if not configs:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            "No file of the upload is a configuration of MMDetection: a Python file that assigns `model`.",
            suggested_fix=ADVICE,
        )
    parsed = {path: _parsed(path, root) for path in configs}
    below = {base for entry in parsed.values() for base in entry.bases}
    checkpoint = the_checkpoint(root, named, _NO_WEIGHTS)
    config = the_config(root, [path for path in configs if path not in below], checkpoint, named)
    modules, waiting, seen = list[tuple[str, Path]](), [config], set[Path]()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        entry = parsed.get(current) or _parsed(current, root)
        modules += entry.modules
        waiting += entry.bases
    return DetectorFiles(config, checkpoint, tuple(dict.fromkeys(modules)))


def _tree(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _marks(node: ast.stmt) -> bool:
    if isinstance(node, ast.With):
        return _reads_base(node)
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    name, value = node.targets[0].id, node.value
    is_dict = isinstance(value, ast.Dict) or (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict"
    )
    return name == "_base_" or (name == "model" and is_dict)


def _reads_base(node: ast.With) -> bool:
    called = node.items[0].context_expr
    return isinstance(called, ast.Call) and isinstance(called.func, ast.Name) and called.func.id == "read_base"


def _parsed(path: Path, root: Path) -> _Parsed:
    shown = path.relative_to(root).as_posix()
    try:
        tree = _tree(read_config(path, root))
    except SyntaxError as error:
        raise _failure(FailureReason.INVALID_MODEL, shown, error.lineno or 0, f"is not Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _failure(FailureReason.INVALID_MODEL, shown, 0, f"cannot be parsed: {error}") from error
    inside = [child for node in tree.body if isinstance(node, ast.With) and _reads_base(node) for child in node.body]
    for node in ast.walk(tree):
        _check(node, shown, from_base=node in inside)
    bases: list[Path] = []
    modules: list[tuple[str, Path]] = []
    for base, line in _bases(tree, shown):
        if base.startswith(_SCOPE) and not {"..", ""} & set(base.removeprefix(_SCOPE).split("/")):
            continue
        bases.append(base_inside(base, path, root, line, ADVICE))
    for child in inside:
        if isinstance(child, ast.ImportFrom) and child.level:
            relative = "../" * (child.level - 1) + (child.module or "").replace(".", "/") + ".py"
            bases.append(base_inside(relative, path, root, child.lineno, ADVICE))
    for module, line in _custom_imports(tree, shown):
        if module.split(".")[0] not in _TOOLBOX:
            modules.append((module, _folder_of(module, path, root, line)))
    return _Parsed(tuple(bases), tuple(modules))


def _check(node: ast.AST, shown: str, *, from_base: bool) -> None:
    """Refuse what no configuration needs, with its line."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        relative = isinstance(node, ast.ImportFrom) and node.level > 0
        strange = next((name for name in names if name.split(".")[0] not in _IMPORTED), None)
        if not (relative and from_base) and (relative or strange is not None):
            raise _unsafe(shown, node.lineno, f"imports '{strange or '.'}'")
    elif isinstance(node, ast.Name) and node.id in _CALLED:
        raise _unsafe(shown, node.lineno, f"uses '{node.id}'")
    elif isinstance(node, ast.Attribute) and node.attr.startswith("__"):
        raise _unsafe(shown, node.lineno, f"uses '.{node.attr}'")


def _bases(tree: ast.Module, shown: str) -> Iterator[tuple[str, int]]:
    for node, value in _assigned(tree, "_base_"):
        entries = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
        for entry in entries:
            if not isinstance(entry, ast.Constant) or not isinstance(entry.value, str):
                what = "computes '_base_'; it must be a text, or a list of texts"
                raise _failure(FailureReason.INVALID_MODEL, shown, node.lineno, what)
            yield entry.value, entry.lineno


def _custom_imports(tree: ast.Module, shown: str) -> Iterator[tuple[str, int]]:
    for node, value in _assigned(tree, "custom_imports"):
        try:
            if isinstance(value, ast.Call):
                found = {entry.arg: ast.literal_eval(entry.value) for entry in value.keywords}
            else:
                found = ast.literal_eval(value)
            names = found["imports"]
            names = [names] if isinstance(names, str) else list(names)
        except (ValueError, TypeError, KeyError):
            what = "computes 'custom_imports'; it must be dict(imports=['module'])"
            raise _failure(FailureReason.INVALID_MODEL, shown, node.lineno, what) from None
        yield from ((str(name), node.lineno) for name in names)


def _assigned(tree: ast.Module, name: str) -> Iterator[tuple[ast.stmt, ast.expr]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            yield node, node.value


def _folder_of(module: str, config: Path, root: Path, line: int) -> Path:
    """Return the folder of the upload that a module can be imported from."""
    inner = module.replace(".", "/")
    folders: Sequence[Path] = [folder for folder in config.parents if folder.is_relative_to(root)]
    for folder in folders:
        if all(part.isidentifier() for part in module.split(".")) and (
            (folder / f"{inner}.py").is_file() or (folder / inner / "__init__.py").is_file()
        ):
            return folder
    raise _failure(
        FailureReason.UNSAFE_MODEL,
        config.relative_to(root).as_posix(),
        line,
        f"imports '{module}' by custom_imports, which is not among the uploaded files",
        f"Upload the file {inner}.py with the configuration, in the folder that it is imported from: it then runs in "
        "the sandbox, as an architecture does.",
    )


def _unsafe(shown: str, line: int, what: str) -> EngineFailure:
    return _failure(
        FailureReason.UNSAFE_MODEL,
        shown,
        line,
        f"{what}, which no description of a detector needs",
        "Take it out. A configuration may assign values and import classes of MMDetection; code of your own goes into "
        "a file of its own that custom_imports names.",
    )


def _failure(reason: FailureReason, shown: str, line: int, what: str, fix: str = ADVICE) -> EngineFailure:
    where = f"{shown}:{line}" if line else shown
    return EngineFailure(reason, f"The configuration {what} ({where}).", node=where, suggested_fix=fix)
