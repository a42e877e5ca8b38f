"""`metrics.json` in the data directory: where each process tells its metrics, as Prometheus' file_sd wants it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

FILE_NAME = "metrics.json"


def write_targets(data_dir: Path, ports: Mapping[str, int], services: Collection[str]) -> None:
    """Replace the file of a data directory, or remove it if there are no ports.

    Args:
        data_dir: The directory.
        ports: The metrics port of each process by name.
        services: Those of them that are API processes; the others are workers.
    """
    if not ports:
        (data_dir / FILE_NAME).unlink(missing_ok=True)
        return
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"service": name, "component": "api" if name in services else "worker"},
        }
        for name, port in ports.items()
    ]
    (data_dir / FILE_NAME).write_text(json.dumps(targets, indent=2) + "\n", encoding="utf-8")
