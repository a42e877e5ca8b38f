"""How forms of LiteRT are served."""

from engines.runtimes.serving import Serving, VersionRule

SERVING = Serving(VersionRule.NEWER)  # the schema is backward compatible, operators are versioned
