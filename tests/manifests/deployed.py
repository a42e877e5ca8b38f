"""What `deploy/` holds, parsed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE = DEPLOY / "compose/compose.yaml"
ENVOY = DEPLOY / "http/envoy.yaml"
DESCRIPTORS = ROOT / "protos/gen/lathe/descriptors.binpb"
DOCKERFILE = DEPLOY / "docker/Dockerfile"

# Of a pod's memory, what is not for the sandboxed children that work: their parent process, and in a worker the child
# that waits for the next task.
HEADROOM = 1 << 30

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def manifest_files() -> list[Path]:
    """Return every file of resources; kustomizations are no resources of Kubernetes."""
    return sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def deployments() -> Iterator[dict[str, Any]]:
    for path in manifest_files():
        yield from (each for each in documents(path) if each["kind"] == "Deployment")


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    containers = pod_of(deployment)["containers"]
    assert len(containers) == 1
    only: dict[str, Any] = containers[0]
    return only


def environment_of(deployment: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container_of(deployment).get("env", [])}


def shared_settings() -> dict[str, str]:
    lines = (KUBERNETES / "base/settings.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def is_worker(deployment: dict[str, Any]) -> bool:
    return bool(deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "worker")


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return parsed


def bytes_of(quantity: str) -> int:
    """Return the bytes of a quantity as Kubernetes writes it, in powers of two: `9Gi`."""
    found = re.fullmatch(r"(\d+)(|Ki|Mi|Gi)", quantity)
    assert found, f"'{quantity}' is no memory quantity that this reads"
    return int(found[1]) * _UNITS[found[2]]


def envoy_program() -> str:
    """Return the path of the proxy, which a package of the extra `dev` brings."""
    return str(Path(sys.executable).parent / "envoy")
