"""How forms of Ascend's ATC are served: by the package's own `infer.py` on the chip, through pyACL.

An offline model runs on the version of CANN that made it and on later ones, and only on the chip that it was made for.
Triton has no backend for it: NVIDIA's server has none, and none of Huawei's is published for it; a serving system that
loads `.om` files (MindIE, ais_bench) takes the file of the package as it is. pyACL comes with CANN, not from pip.
"""

from engines.runtimes.serving import Serving, VersionRule

SERVING = Serving(VersionRule.NEWER, (), ("ascend/opener.py",), modelarts_folder="")
