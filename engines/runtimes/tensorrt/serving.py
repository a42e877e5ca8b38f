"""How forms of TensorRT are served."""

from engines.runtimes.serving import Serving, VersionRule

SERVING = Serving(VersionRule.EXACT)  # an engine is tied to the version that built it
