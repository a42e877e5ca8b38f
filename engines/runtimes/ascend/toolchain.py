"""Finds CANN: the toolkit with ATC, the operators of a chip, and the chip itself.

`set_env.sh` of an installation sets ASCEND_HOME_PATH and ASCEND_OPP_PATH. From CANN 8.5 on, the operators of a chip are
a package of their own, which ATC cannot compile without. On a machine without a chip, ATC's libraries find those of the
driver in `devlib`. Source: ATC's manual, "Preparing the environment", in the repository of its graph engine.
"""

from __future__ import annotations

import functools
import glob
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from engines.spec.toolchain import available_threads

HOMES = ("/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit/latest")
"""Where an installation lies unless ASCEND_HOME_PATH says otherwise: since CANN 8.5, and before."""
INSTALL = (
    "CANN with ATC: install the CANN toolkit (Ascend-cann-toolkit_*.run) and, from CANN 8.5 on, the ops package of the "
    "chip, then start the worker after `source /usr/local/Ascend/cann/set_env.sh`"
)
OPERATORS_APART = (8, 5)
"""The first version of CANN whose operators are packages of their own."""
SECOND_PRECISIONS = (7, 0)
"""The first version of CANN that is trusted to know `--precision_mode_v2`."""
_MOST_COMPILERS = 32
_VERSION_FILES = (
    "{arch}-linux/ascend_toolkit_install.info",
    "share/info/ge-compiler/version.info",
    "compiler/version.info",
    "opp/version.info",
)
_VERSION = re.compile(r"^\s*version\s*=\s*\[?([^\s\]:]+)", re.IGNORECASE | re.MULTILINE)
_FAMILY = re.compile(r"Ascend\d+[A-Z]?")


@dataclass(frozen=True)
class Cann:
    """An installation.

    Attributes:
        home: Its folder.
        atc: The command.
        operators: Folder of the operators.
        version: As its files state it: `8.5.0`; empty if none does.
    """

    home: Path
    atc: Path
    operators: Path
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version's numbers; those of the newest rules if it is unknown."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else OPERATORS_APART

    @property
    def devlib(self) -> Path:
        """Libraries that stand for the driver's on a machine without a chip."""
        return self.home / f"{platform.machine()}-linux" / "devlib"

    def lacks(self, soc: str) -> str | None:
        """Return what is missing to build for a chip; None if nothing is."""
        built_in = self.operators / "built-in/op_impl/ai_core/tbe/config"
        if not (built_in / family(soc).lower()).is_dir():
            return (
                f"the operators of {family(soc)}: CANN {self.version or 'here'} has none in {built_in}; install the "
                "ops package of the chip, and choose the installation of that chip by its set_env.sh"
            )
        if self.numbers >= OPERATORS_APART and not has_chip() and not self.devlib.is_dir():
            return f"the folder {self.devlib}, which ATC needs on a machine without a chip; install the whole toolkit"
        return None

    def environment(self) -> dict[str, str]:
        """Return the environment variables of its commands, beside those of this process."""
        libraries = [self.home / "lib64", *(() if has_chip() else (self.devlib,))]
        return {
            "ASCEND_HOME_PATH": str(self.home),
            "ASCEND_TOOLKIT_HOME": str(self.home),
            "ASCEND_OPP_PATH": str(self.operators),
            "ASCEND_AICPU_PATH": str(self.home),
            "PATH": os.pathsep.join([str(self.atc.parent), *system_path()]),
            "LD_LIBRARY_PATH": os.pathsep.join(
                [str(path) for path in libraries if path.is_dir()]
                + [path for path in [os.environ.get("LD_LIBRARY_PATH", "")] if path]
            ),
            "PYTHONPATH": str(self.home / "python" / "site-packages"),
            "TE_PARALLEL_COMPILER": str(min(available_threads(), _MOST_COMPILERS)),
        }


def find_cann() -> Cann | None:
    """Return the installation that the environment names, else one in a usual place, else that of `atc` on PATH."""
    on_path = shutil.which("atc")
    homes = [os.environ.get(name, "") for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")]
    for home in [Path(each) for each in (*homes, *HOMES) if each]:
        for atc in (home / "bin" / "atc", home / "compiler" / "bin" / "atc"):
            if os.access(atc, os.X_OK):
                return _installation(home, atc)
    if on_path:
        atc = Path(on_path).resolve()
        return _installation(atc.parent.parent, atc)
    return None


def _installation(home: Path, atc: Path) -> Cann:
    stated = os.environ.get("ASCEND_OPP_PATH", "")
    return Cann(home, atc, Path(stated) if stated else home / "opp", _version(home))


def _version(home: Path) -> str:
    for name in _VERSION_FILES:
        path = home / name.format(arch=platform.machine())
        if path.is_file() and (found := _VERSION.search(path.read_text(encoding="utf-8", errors="replace"))):
            return found[1]
    return ""


def system_path() -> list[str]:
    """Return the folders of PATH without those of Lathe's Python: CANN's compilers are Python programs of their own."""
    own = os.path.join(sys.prefix, "bin") if sys.prefix != sys.base_prefix else ""
    folders = os.environ.get("PATH", "/usr/bin:/bin").split(os.pathsep)
    return [folder for folder in folders if os.path.normpath(folder) != own]


def family(soc: str) -> str:
    """Return the family of a chip, whose operators are one package: `Ascend310P` of `Ascend310P3`."""
    found = _FAMILY.match(soc)
    return found[0] if found else soc


def has_chip() -> bool:
    """Return whether the driver of an Ascend chip is loaded here."""
    return bool(glob.glob("/dev/davinci[0-9]*"))


@functools.cache
def chip() -> str:
    """Return the chip of this machine as ATC names it, such as `Ascend310P3`; empty if there is none."""
    if not has_chip():
        return ""
    cann = find_cann()
    packages = str(cann.home / "python" / "site-packages") if cann else ""
    if packages and packages not in sys.path:
        sys.path.append(packages)
    try:
        import acl
    except ImportError:
        return ""
    return acl.get_soc_name() or ""
