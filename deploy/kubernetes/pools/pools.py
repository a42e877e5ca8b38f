"""Writes the pools of workers, a folder for each, from the catalog of devices: `make pools`.

A pool is a kustomize component. Processors get a Deployment that KEDA scales from zero, accelerators a ScaledJob, whose
pods nobody evicts. README.md beside this file says why each value is what it is.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
NAMESPACE = "lathe"
GIB = 1 << 30

sys.path.insert(0, str(ROOT))

from engines.spec.devices import Device, load_catalog  # noqa: E402 - from this repository
from services.local.roster import SERVICES, WORKERS  # noqa: E402

# The services whose tasks workers do, each with its kinds.
KINDS = {
    "converter": ("conversion",),
    "quantizer": ("quantization",),
    "optimizer": ("optimization", "profile"),
    "evaluator": ("evaluation",),
}
BUILDING = tuple(worker.kind for worker in WORKERS if not worker.runs_forms)

MOST_WORKERS = 8
POLL_SECONDS = 5
IDLE_SECONDS = 300
LONGEST_JOB_SECONDS = 24 * 3600
KEPT_JOB_SECONDS = 3600
GRACE_SECONDS = 60


@dataclass(frozen=True)
class WorkerPool:
    """A set of worker pods for one device.

    Attributes:
        name: Of its folder; that of its pods has `worker-` before it.
        device: The device that they serve.
        nodes: Labels of their nodes.
        kinds: Kinds of tasks that they take; all if empty.
    """

    name: str
    device: Device
    nodes: dict[str, str]
    kinds: tuple[str, ...] = ()

    @property
    def scalers(self) -> list[str]:
        """The task services that have work for it."""
        return [service for service, kinds in KINDS.items() if not self.kinds or set(kinds) & set(self.kinds)]


def pools() -> list[WorkerPool]:
    """Return a pool for each device that this release builds for, and one of builders if the catalog says where."""
    found = []
    for device in load_catalog().devices.values():
        if device.buildable_runtimes:
            found.append(WorkerPool(device.id, device, device.pod.node_selector))
            if device.pod.builders:
                found.append(WorkerPool(f"{device.id}-builders", device, device.pod.builders, BUILDING))
    return found


def component(pool: WorkerPool) -> dict[str, str]:
    """Return the files of a pool by their names."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "namespace": NAMESPACE,
        "resources": ["pool.yaml"],
        "images": [{"name": _image(pool.device), "newTag": VERSION}],
    }
    resources = _jobs(pool) if pool.device.is_accelerator else _deployment(pool)
    head = "# Made by `make pools` from the catalog of devices; ../README.md explains the values.\n"
    return {"kustomization.yaml": head + _yaml([kustomization]), "pool.yaml": head + _yaml(resources)}


def _deployment(pool: WorkerPool) -> list[dict[str, Any]]:
    name = f"worker-{pool.name}"
    selected = {"matchLabels": {"app.kubernetes.io/name": name}}
    behavior = {
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {
            "stabilizationWindowSeconds": IDLE_SECONDS,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        },
    }
    scaling = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "pollingInterval": POLL_SECONDS,
        "cooldownPeriod": IDLE_SECONDS,
        "maxReplicaCount": MOST_WORKERS,
        "advanced": {
            "scalingModifiers": {"formula": " + ".join(pool.scalers), "target": "1", "metricType": "AverageValue"},
            "horizontalPodAutoscalerConfig": {"behavior": behavior},
        },
        "triggers": [{"name": service, **_trigger("external-push", pool, service)} for service in pool.scalers],
    }
    return [
        _resource("apps/v1", "Deployment", name, {"selector": selected, "template": _template(pool, {})}),
        _resource("policy/v1", "PodDisruptionBudget", name, {"maxUnavailable": 1, "selector": selected}),
        _resource("keda.sh/v1alpha1", "ScaledObject", name, scaling),
    ]


def _jobs(pool: WorkerPool) -> list[dict[str, Any]]:
    template = _template(pool, {"LATHE_IDLE_EXIT_SECONDS": str(IDLE_SECONDS)})
    template["spec"]["restartPolicy"] = "Never"
    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    job = {
        "backoffLimit": 3,
        "podFailurePolicy": {"rules": [evicted]},
        "activeDeadlineSeconds": LONGEST_JOB_SECONDS,
        "ttlSecondsAfterFinished": KEPT_JOB_SECONDS,
        "template": template,
    }
    scaling = {
        "pollingInterval": POLL_SECONDS,
        "maxReplicaCount": MOST_WORKERS,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "rollout": {"strategy": "gradual"},
        "scalingStrategy": {"strategy": "default", "multipleScalersCalculation": "sum"},
        "jobTargetRef": job,
        "triggers": [_trigger("external", pool, service) for service in pool.scalers],
    }
    return [_resource("keda.sh/v1alpha1", "ScaledJob", f"worker-{pool.name}", scaling)]


def _trigger(kind: str, pool: WorkerPool, service: str) -> dict[str, Any]:
    port = next(each.port for each in SERVICES if each.name == service)
    told = {"scalerAddress": f"{service}.{NAMESPACE}.svc:{port}", "device": pool.device.id}
    if pool.kinds:
        told["kinds"] = ",".join(each for each in KINDS[service] if each in pool.kinds)
    return {"type": kind, "metadata": told}


def _template(pool: WorkerPool, more: dict[str, str]) -> dict[str, Any]:
    device = pool.device
    told = {
        "LATHE_DEVICE": device.id,
        **({"LATHE_KINDS": ",".join(pool.kinds)} if pool.kinds else {}),
        **more,
        "LATHE_DATA_DIR": "/data",
        "LATHE_CACHE_BYTES": str(10 * GIB),
        "LATHE_DRAIN_SECONDS": str(device.timeout_seconds),
    }
    size = {"cpu": "4", "memory": f"{device.memory_limit_bytes // GIB + 1}Gi", **device.pod.resources}
    container = {
        "name": "worker",
        "image": _image(device),
        "args": ["services.worker"],
        "envFrom": [
            {"configMapRef": {"name": "lathe-settings"}},
            {"secretRef": {"name": "lathe-bus"}},
            {"secretRef": {"name": "lathe-store"}},
            {"secretRef": {"name": f"lathe-worker-{device.id}", "optional": True}},
        ],
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "ports": [{"name": "metrics", "containerPort": 9464}],
        "resources": {"requests": size, "limits": size},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("tmp", "data")],
    }
    tolerations = [
        {"operator": taint.operator, **taint.model_dump(exclude_defaults=True)} for taint in device.pod.tolerations
    ]
    pod = {
        "serviceAccountName": "workers",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": pool.nodes,
        **({"tolerations": tolerations} if tolerations else {}),
        "terminationGracePeriodSeconds": device.timeout_seconds + GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "data", "emptyDir": {"sizeLimit": "50Gi"}},
        ],
    }
    kept = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
    return {"metadata": {"labels": _labels(f"worker-{pool.name}"), "annotations": kept}, "spec": pod}


def _resource(version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": _labels(name)}, "spec": spec}


def _labels(name: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "lathe",
    }


def _image(device: Device) -> str:
    return f"lathe-worker-{device.pod.image}"


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _yaml(resources: Sequence[dict[str, Any]]) -> str:
    return yaml.dump_all(resources, Dumper=_Plain, sort_keys=False, width=120)


def write() -> None:
    """Write the folder of every pool, and remove those of pools that are no more."""
    for old in HERE.glob("*/pool.yaml"):
        shutil.rmtree(old.parent)
    for pool in pools():
        folder = HERE / pool.name
        folder.mkdir()
        for name, text in component(pool).items():
            (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
