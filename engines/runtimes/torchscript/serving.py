"""How TorchScript programs are served."""

from __future__ import annotations

from engines.runtimes.serving import Serving, VersionRule
from engines.runtimes.torchscript.opener import PACKAGES

SERVING = Serving(
    VersionRule.SAME_MAJOR,  # archives are read by later releases of a major version
    PACKAGES,
    ("torch_networks/opener.py", "torch_networks/cuda_opener.py", "torchscript/opener.py"),
)
