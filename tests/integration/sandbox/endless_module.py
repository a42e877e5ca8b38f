"""A module that never ends to be imported; it tells that it has begun. Only the sandbox's children import it."""

import time
from pathlib import Path

Path("importing").touch()
time.sleep(600)
