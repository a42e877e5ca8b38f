"""Which prototxt of a model is its net, and which caffemodel holds the weights. By names alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from engines.formats.caffe.failures import refused

NET, WEIGHTS = ".prototxt", ".caffemodel"
_NO_NETS = ("solver",)
_TRAINING = ("train",)


def nets(paths: Iterable[str]) -> list[str]:
    """Return the prototxts that can be the net: no solver, and of several in a folder, those that name no training.

    Of those that are left, `deploy` is preferred.
    """
    found = [path for path in paths if path.lower().endswith(NET)]
    found = _unless(found, _NO_NETS)
    found = _unless(found, _TRAINING)
    return [path for path in found if "deploy" in PurePosixPath(path).name.lower()] or found


def weights_beside(net: Path) -> Path:
    """Return the weights of a net: the only caffemodel in its folder, else the one of its name.

    Raises:
        EngineFailure: INVALID_MODEL if there are none, or several and none has the net's name.
    """
    found = sorted(path for path in net.parent.iterdir() if path.name.lower().endswith(WEIGHTS))
    if not found:
        saved = next((path.name for path in net.parent.iterdir() if path.name.lower().endswith(f"{WEIGHTS}.h5")), "")
        raise refused(
            f"'{net.name}' has no weights: no .caffemodel is beside it."
            + (f" '{saved}' is HDF5, which Lathe does not read." if saved else ""),
            "Upload the .caffemodel in the same folder."
            + (" Caffe writes one with snapshot_format: BINARYPROTO." if saved else ""),
        )
    named = [path for path in found if path.stem == net.stem]
    if len(found) > 1 and not named:
        raise refused(
            f"'{net.name}' has {len(found)} files of weights beside it: {_list([path.name for path in found])}.",
            f"Name the right one {net.stem}{WEIGHTS}, or upload it alone.",
        )
    return (named or found)[0]


def _unless(paths: list[str], words: Sequence[str]) -> list[str]:
    """Return the paths whose names have none of the words, if there are any."""
    return [path for path in paths if not any(word in PurePosixPath(path).name.lower() for word in words)] or paths


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
