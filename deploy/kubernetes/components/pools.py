"""Writes the pools of workers for accelerators, `<device>/pools.yaml`, from the catalog of devices.

    python deploy/kubernetes/components/pools.py

A pool differs from the one for x86 processors (`base/workers`) in what the catalog says of the device.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATTERN = "cpu-x86-64"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
GIB = 1 << 30

sys.path.insert(0, str(ROOT))

from engines.spec.devices import Device, Toleration, load_catalog  # noqa: E402 - from this repository
from services.local.roster import WORKERS  # noqa: E402


def component(device: Device) -> dict[str, str]:
    """Return the files of a device's component by their names."""
    head = (
        f"# The pools of workers for {device.id}, one for each kind of task. Made by ../pools.py from the catalog.\n"
        "# base/workers/conversion-cpu-x86-64.yaml says what the sandbox needs of the nodes. What a runtime builds\n"
        "# anywhere (see the catalog) needs no chip: a pool that only converts can do without the node selector and\n"
        "# the chip's resource; its packages are then UNVERIFIED.\n"
    )
    pools = "---\n".join(_pool(device, worker.kind) for worker in WORKERS)
    kustomization = (
        "# Made by ../pools.py. An overlay names it under `components`, if its cluster has such nodes.\n"
        "apiVersion: kustomize.config.k8s.io/v1alpha1\n"
        "kind: Component\n"
        "namespace: lathe\n"
        "resources: [pools.yaml]\n"
        f"images: [{{name: lathe-worker-{device.pod.image}, newTag: {VERSION}}}]\n"
        "labels: [{pairs: {app.kubernetes.io/part-of: lathe}, includeTemplates: true}]\n"
    )
    return {"kustomization.yaml": kustomization, "pools.yaml": head + pools}


def accelerators() -> list[Device]:
    """Return the devices that have such a component."""
    return [each for each in load_catalog().devices.values() if each.is_accelerator and each.buildable_runtimes]


def _pool(device: Device, kind: str) -> str:
    text = (HERE.parent / "base/workers" / f"{kind}-{PATTERN}.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace(PATTERN, device.id)
    text = text.replace("image: lathe-worker-cpu", f"image: lathe-worker-{device.pod.image}")
    placed = [f"      nodeSelector: {_flow(device.pod.node_selector)}\n"]
    if device.pod.tolerations:
        taints = [_taint(taint) for taint in device.pod.tolerations]
        placed.append(f"      tolerations: [{', '.join(taints)}]\n")
    text = re.sub(r"^ *nodeSelector: .*\n", "".join(placed), text, flags=re.MULTILINE)
    memory = f"{device.memory_limit_bytes // GIB + 1}Gi"
    wanted = _flow({"cpu": "4", "memory": memory, **device.pod.resources})
    return re.sub(r"^( *)(requests|limits): .*$", rf"\1\2: {wanted}", text, flags=re.MULTILINE)


def _taint(taint: Toleration) -> str:
    return _flow({"operator": taint.operator, **taint.model_dump(exclude_defaults=True)})


def _flow(values: dict[str, str]) -> str:
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=1000).strip()


if __name__ == "__main__":
    for each in accelerators():
        folder = HERE / each.id
        folder.mkdir(exist_ok=True)
        for name, text in component(each).items():
            (folder / name).write_text(text, encoding="utf-8")
