"""How forms of Ascend's ACL are served."""

from engines.runtimes.serving import Serving, VersionRule

SERVING = Serving(VersionRule.NEWER)  # an offline model runs on the CANN version that converted it and on later ones
