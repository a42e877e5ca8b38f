"""What `deploy/` holds, parsed."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("overlays/small", "overlays/production", "overlays/complete")
COMPOSE = DEPLOY / "compose/compose.yaml"
ENVOY = DEPLOY / "http/envoy.yaml"
DESCRIPTORS = ROOT / "protos/gen/lathe/descriptors.binpb"
DOCKERFILE = DEPLOY / "docker/Dockerfile"

# Of a pod's memory, what is not for the sandboxed children that work: their parent process, and in a worker the child
# that waits for the next task.
HEADROOM = 1 << 30

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def manifest_files() -> list[Path]:
    """Return every file of resources; what kustomize reads itself is no resource of Kubernetes."""
    return sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name not in {"kustomization.yaml", "names.yaml"})


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@functools.cache
def built(tree: Path) -> tuple[dict[str, Any], ...]:
    """Return the resources that kustomize makes of a folder."""
    command = [_program("kubectl"), "kustomize", str(tree)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert told.returncode == 0, told.stderr
    return tuple(yaml.safe_load_all(told.stdout))


def workloads(resources: Iterable[dict[str, Any]] = ()) -> Iterator[dict[str, Any]]:
    """Yield what makes pods of Lathe's: Deployments and ScaledJobs, of `deploy/` if no resources are given."""
    for each in resources or (each for path in manifest_files() for each in documents(path)):
        if each["kind"] in {"Deployment", "ScaledJob"}:
            yield each


def template_of(workload: dict[str, Any]) -> dict[str, Any]:
    """Return the pod template of anything that makes pods."""
    spec = workload["spec"]
    template: dict[str, Any] = spec["jobTargetRef"]["template"] if workload["kind"] == "ScaledJob" else spec["template"]
    return template


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = template_of(workload)["spec"]
    return pod


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    containers = pod_of(workload)["containers"]
    assert len(containers) == 1
    only: dict[str, Any] = containers[0]
    return only


def environment_of(workload: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container_of(workload).get("env", []) if "value" in each}


def shared_settings() -> dict[str, str]:
    lines = (KUBERNETES / "base/settings.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def is_worker(workload: dict[str, Any]) -> bool:
    return bool(workload["metadata"]["labels"]["app.kubernetes.io/component"] == "worker")


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
    return _program("envoy")


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)
