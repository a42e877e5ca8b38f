"""How forms of LiteRT are served: by the package's own `infer.py`, as Triton has no backend for .tflite files."""

from engines.runtimes.litert.opener import PACKAGES
from engines.runtimes.serving import Serving, VersionRule

SERVING = Serving(
    VersionRule.NEWER,  # the schema is backward compatible, operators are versioned
    PACKAGES,
    ("litert/opener.py",),
)
