"""Where pip put the programs that the embedded stack runs."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from services.local.errors import LocalError


def installed_binary(name: str, alternative: str) -> Path:
    """Return the path of a program that a pip package installed beside this Python, or one on PATH.

    Raises:
        LocalError: It is not installed; names the package extra and the setting `alternative`.
    """
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.exists():
        return beside
    found = shutil.which(name)
    if found is None:
        raise LocalError(
            f"{name} is not installed: `pip install 'lathe[local]'`, or set {alternative} to an existing server."
        )
    return Path(found)
