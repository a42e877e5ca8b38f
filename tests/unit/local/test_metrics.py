"""Where the processes of a stack tell their metrics."""

from __future__ import annotations

import json
from pathlib import Path

from services.local.metrics import FILE_NAME, write_targets


def test_prometheus_finds_every_process_with_its_name(tmp_path: Path) -> None:
    write_targets(tmp_path, {"registry": 9464, "worker-cpu": 9465}, {"registry"})
    assert json.loads((tmp_path / FILE_NAME).read_text()) == [
        {"targets": ["127.0.0.1:9464"], "labels": {"service": "registry", "component": "api"}},
        {"targets": ["127.0.0.1:9465"], "labels": {"service": "worker-cpu", "component": "worker"}},
    ]
    write_targets(tmp_path, {}, {"registry"})
    assert not (tmp_path / FILE_NAME).exists()
