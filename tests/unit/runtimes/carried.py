"""Computes with the openers that a package carries, in a process that sees nothing of Lathe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from engines.package.writer import write_scripts
from engines.runtimes import BuiltForm
from engines.tensors import Array, Arrays

SCRIPT = """
import importlib, json, sys, types
import numpy as np
root, stated, feed = types.ModuleType("carried"), json.loads(sys.argv[1]), dict(np.load(sys.argv[2]))
root.__path__ = [stated["folder"]]
sys.modules["carried"] = root
opener = importlib.import_module(f"carried.runtimes.{stated['runtime'].replace('-', '_')}.opener")
threads = importlib.import_module("carried.runtimes.opened").set_up_process(stated["options"], 2)
form = opener.open_file(stated["path"], stated["options"], threads)
found = form.run_many([feed, feed])
form.close()
np.savez(sys.argv[3], found[0][0], found[1][0])
assert opener.PACKAGES
assert not [name for name in sys.modules if name.partition(".")[0] in {"engines", "services"}]
"""


def computed(form: BuiltForm, feed: Arrays, directory: Path) -> list[Array]:
    """Return the first output of a form for one feed, computed twice."""
    write_scripts(directory / "package", [form.runtime])
    np.savez(directory / "x.npz", allow_pickle=False, **feed)
    stated = {
        "folder": str(directory / "package"),
        "runtime": form.runtime,
        "path": str(form.entry),
        "options": form.options,
    }
    arguments = [json.dumps(stated), str(directory / "x.npz"), str(directory / "y.npz")]
    command = [sys.executable, "-I", "-c", SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, env={"PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    with np.load(directory / "y.npz") as written:
        return [written[name] for name in written.files]
