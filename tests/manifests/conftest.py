"""What several modules read of `deploy/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.manifests.deployed import KUBERNETES


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `kubernetes/`, with the passwords of `complete`."""
    tree = tmp_path_factory.mktemp("manifests") / "kubernetes"
    shutil.copytree(KUBERNETES, tree, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run([str(tree / "overlays/complete/secrets.sh")], check=True, capture_output=True)
    return tree
