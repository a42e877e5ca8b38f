"""Which files of a model version a component is read from: one file, or a folder where the format is a directory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from engines.failures import EngineFailure, FailureReason

DIRECTORY_FORMATS = frozenset({"HUGGINGFACE", "SAVED_MODEL"})
"""Formats whose model is a folder of files; a component's `source_file` names a folder there."""

DOCUMENTS = (".md", ".txt", ".json", ".gitattributes", ".gitignore", ".npz", ".npy", ".jinja")
"""Ends of files that lie beside a model: texts, configurations, sample data."""

ROOT = "source"
"""Folder of the work directory in which the model version's files lie."""

TEST_DATA = "samples/test.npz"
"""Where the user's own lie in a work directory."""


def source_path(source_format: str, component: str, source_file: str, paths: Iterable[str]) -> str:
    """Return the path, in the work directory, of the file or folder that a component is read from.

    Args:
        source_format: Name of ModelFormat.
        component: Name of the component, for messages.
        source_file: File of the model version; a folder of it where the format is a directory; the only model, or the
            whole version, where empty.
        paths: All paths of the request's files.

    Raises:
        EngineFailure: INVALID_SPEC where nothing is there, or none is named among several files.
    """
    files = [path for path in paths if path.startswith(f"{ROOT}/")]
    if source_format in DIRECTORY_FORMATS:
        return _folder(component, source_file, files)
    if source_file:
        path = f"{ROOT}/{source_file}"
        if path not in files:
            raise _invalid(f"Component '{component}' reads '{path}'; the model version has {_list(files)}.")
        return path
    models = model_files(source_format, files)
    if len(models) != 1:
        raise _invalid(
            f"Component '{component}' names no source file, and the model version has {len(models)} files that may be "
            f"the model: {_list(models or files)}. Set `source_file`."
        )
    return models[0]


def model_files(source_format: str, paths: Iterable[str]) -> list[str]:
    """Return those files of a model version that are models by their names.

    Args:
        source_format: Name of ModelFormat. Beside ONNX models lie their weights.
        paths: All files of the version.
    """
    files = [path for path in paths if not path.lower().endswith(DOCUMENTS)]
    named = [path for path in files if path.lower().endswith(".onnx")] if source_format == "ONNX" else []
    return named or files


def file_inside(workdir: Path, relative: str) -> Path:
    """Return a file of the work directory.

    Raises:
        EngineFailure: INVALID_SPEC where the path leads out of the directory, INPUT_UNAVAILABLE where nothing is there.
    """
    path = _inside(workdir, relative)
    if not path.is_file():
        raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The input '{relative}' is not in the work directory.")
    return path


def folder_inside(workdir: Path, relative: str) -> Path:
    """Return a folder of the work directory, none of whose files leads out of it.

    Raises:
        EngineFailure: UNSAFE_MODEL for a link that leads out, INVALID_SPEC where the folder itself does,
            INPUT_UNAVAILABLE where nothing is there.
    """
    folder = _inside(workdir, relative)
    if not folder.is_dir():
        raise EngineFailure(FailureReason.INPUT_UNAVAILABLE, f"The folder '{relative}' is not in the work directory.")
    check_links(folder, workdir / ROOT)
    return folder


def check_links(folder: Path, root: Path) -> None:
    """Refuse links in a folder that lead out of the root.

    Raises:
        EngineFailure: UNSAFE_MODEL naming the link.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise EngineFailure(
                FailureReason.UNSAFE_MODEL,
                f"'{path.relative_to(folder)}' is a link that leads out of the model's folder; it was not followed.",
                suggested_fix="Upload the file itself in place of the link: cp -rL writes a copy without links.",
            )


def _inside(workdir: Path, relative: str) -> Path:
    path = (workdir / relative).resolve()
    if not path.is_relative_to(workdir.resolve()):
        raise _invalid(f"The path '{relative}' leads out of the work directory.")
    return path


def _folder(component: str, source_file: str, files: Sequence[str]) -> str:
    path = str(PurePosixPath(ROOT) / source_file)
    if not any(file.startswith(f"{path}/") for file in files):
        have = sorted({str(PurePosixPath(file).parent) for file in files})
        raise _invalid(f"Component '{component}' reads the folder '{path}'; the model version has {_list(have)}.")
    return path


def _list(paths: Sequence[str]) -> str:
    return ", ".join(paths[:20]) + (f" and {len(paths) - 20} more" if len(paths) > 20 else "") or "none"


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
