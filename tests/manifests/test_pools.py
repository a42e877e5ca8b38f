"""The pools of workers agree with the catalog of devices, and with what KEDA and Kubernetes do with them."""

from __future__ import annotations

import asyncio
import re
import runpy
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lathe.internal.keda import externalscaler_pb2 as pb

from engines.spec.devices import Device, load_catalog
from services.local.roster import SERVICES, WORKERS
from services.tasks.api.demand import Demand
from services.tasks.api.scaler import Scaler
from tests.manifests.deployed import (
    HEADROOM,
    KUBERNETES,
    bytes_of,
    container_of,
    documents,
    environment_of,
    pod_of,
    shared_settings,
    template_of,
)

BUILDABLE = {name: device for name, device in load_catalog().devices.items() if device.buildable_runtimes}
POOLS = {path.parent.name: documents(path) for path in sorted(KUBERNETES.glob("pools/*/pool.yaml"))}
KINDS = {worker.kind for worker in WORKERS}
SERVED = {
    "converter": {"conversion"},
    "quantizer": {"quantization"},
    "optimizer": {"optimization", "profile"},
    "evaluator": {"evaluation"},
}


def workers_of(pool: str) -> dict[str, Any]:
    return POOLS[pool][0]


def scaler_of(pool: str) -> dict[str, Any]:
    (scaler,) = (each for each in POOLS[pool] if each["kind"].startswith("Scaled"))
    return scaler


def device_of(pool: str) -> Device:
    return BUILDABLE[environment_of(workers_of(pool))["LATHE_DEVICE"]]


def kinds_of(pool: str) -> set[str]:
    told = environment_of(workers_of(pool)).get("LATHE_KINDS")
    return set(told.split(",")) if told else KINDS


def test_the_pools_are_those_of_the_catalog() -> None:
    made = runpy.run_path(str(KUBERNETES / "pools/pools.py"))
    pools = made["pools"]()
    assert {each.name for each in pools} == set(POOLS)
    for pool in pools:
        folder = KUBERNETES / "pools" / pool.name
        written = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
        assert written == made["component"](pool), "run `make pools`"


def test_each_device_that_can_be_built_for_has_a_pool_for_every_kind_and_no_other_has_one() -> None:
    whole = {device_of(pool).id for pool in POOLS if kinds_of(pool) == KINDS}
    assert whole == set(BUILDABLE) == {device_of(pool).id for pool in POOLS}


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_agrees_with_its_device(pool: str) -> None:
    workers, device = workers_of(pool), device_of(pool)
    assert workers["metadata"]["name"] == f"worker-{pool}"
    building = kinds_of(pool) != KINDS
    assert kinds_of(pool) == ({worker.kind for worker in WORKERS if not worker.runs_forms} if building else KINDS)
    assert pod_of(workers)["nodeSelector"] == (device.pod.builders if building else device.pod.node_selector)
    assert {container_of(workers)["args"][0]} == {worker.module for worker in WORKERS}
    assert container_of(workers)["image"] == f"lathe-worker-{device.pod.image}"
    taints = [taint.model_dump(exclude_defaults=True) for taint in device.pod.tolerations]
    assert [{"operator": "Exists", **taint} for taint in pod_of(workers).get("tolerations", [])] == [
        {"operator": "Exists", **taint} for taint in taints
    ]
    resources = container_of(workers)["resources"]
    assert device.pod.resources.items() <= resources["limits"].items()
    assert bytes_of(resources["limits"]["memory"]) == device.memory_limit_bytes + HEADROOM
    # Whole cores, and no more than was asked for: if nodes pin cores, latencies are measured undisturbed.
    assert resources["requests"] == resources["limits"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_is_told_to_go_has_the_time_to_finish_its_task(pool: str) -> None:
    told = environment_of(workers_of(pool))
    assert float(told["LATHE_DRAIN_SECONDS"]) == device_of(pool).timeout_seconds
    annotations = template_of(workers_of(pool))["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


@pytest.mark.parametrize("pool", POOLS)
def test_keda_asks_every_service_that_has_work_for_the_pool_and_adds_up(pool: str) -> None:
    scaler = scaler_of(pool)
    asked = {}
    for trigger in scaler["spec"]["triggers"]:
        told = trigger["metadata"]
        assert told["device"] == device_of(pool).id
        service, namespace, domain = re.fullmatch(r"(\w+)\.(\w+)\.(svc):\d+", told["scalerAddress"]).groups()  # type: ignore[union-attr]
        assert (namespace, domain) == (documents(KUBERNETES / "base/namespace.yaml")[0]["metadata"]["name"], "svc")
        (port,) = (each.port for each in SERVICES if each.name == service)
        assert told["scalerAddress"].endswith(f":{port}")
        asked[service] = set(told["kinds"].split(",")) if "kinds" in told else None
    assert set().union(*SERVED.values()) == KINDS
    if kinds_of(pool) == KINDS:
        assert asked == dict.fromkeys(SERVED)
    else:
        assert asked == {name: kinds & kinds_of(pool) for name, kinds in SERVED.items() if kinds & kinds_of(pool)}
    if scaler["kind"] == "ScaledJob":
        assert scaler["spec"]["scalingStrategy"]["multipleScalersCalculation"] == "sum"
    else:
        modifiers = scaler["spec"]["advanced"]["scalingModifiers"]
        assert modifiers["formula"].split(" + ") == [each["name"] for each in scaler["spec"]["triggers"]] == [*asked]
        assert float(modifiers["target"]) == 1


@pytest.mark.parametrize("pool", POOLS)
def test_the_services_understand_what_keda_asks_them(pool: str) -> None:
    for trigger in scaler_of(pool)["spec"]["triggers"]:
        service = trigger["metadata"]["scalerAddress"].partition(".")[0]
        scaler = Scaler(service, load_catalog().devices)
        for kind in SERVED[service]:
            scaler.join(cast("Demand", SimpleNamespace(kind=kind)))
        asked = pb.ScaledObjectRef(scalerMetadata=trigger["metadata"])
        (spec,) = asyncio.run(scaler.get_metric_spec(asked, None)).metricSpecs
        assert (spec.metricName, spec.targetSize) == (f"lathe-{service}-{device_of(pool).id}", 1)


@pytest.mark.parametrize("pool", [pool for pool in POOLS if BUILDABLE.get(pool) and BUILDABLE[pool].is_accelerator])
def test_nobody_ends_the_work_of_an_accelerator(pool: str) -> None:
    spec = scaler_of(pool)["spec"]
    job, told = spec["jobTargetRef"], environment_of(workers_of(pool))
    # KEDA ends the jobs of the earlier version of a ScaledJob otherwise.
    assert spec["rollout"]["strategy"] == "gradual"
    # The count includes what runs; another strategy would start workers twice.
    assert spec["scalingStrategy"]["strategy"] == "default"
    # KEDA's push triggers start no jobs.
    assert {each["type"] for each in spec["triggers"]} == {"external"}
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["activeDeadlineSeconds"] > 10 * device_of(pool).timeout_seconds
    assert job["ttlSecondsAfterFinished"] > 0 < float(told["LATHE_IDLE_EXIT_SECONDS"])
    assert [each["kind"] for each in POOLS[pool]] == ["ScaledJob"]


@pytest.mark.parametrize("pool", [pool for pool in POOLS if workers_of(pool)["kind"] == "Deployment"])
def test_a_pool_of_processors_is_scaled_from_zero(pool: str) -> None:
    workers, spec = workers_of(pool), scaler_of(pool)["spec"]
    assert "replicas" not in workers["spec"], "its number and KEDA would fight"
    assert spec["scaleTargetRef"] == {
        "apiVersion": workers["apiVersion"],
        "kind": workers["kind"],
        "name": workers["metadata"]["name"],
    }
    assert {each["type"] for each in spec["triggers"]} == {"external-push"}
    assert "LATHE_IDLE_EXIT_SECONDS" not in environment_of(workers), "a Deployment would start it again"
    (budget,) = (each for each in POOLS[pool] if each["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= template_of(workers)["metadata"]["labels"].items()
    assert not device_of(pool).is_accelerator


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_has_the_settings_and_the_credentials_of_workers_alone(pool: str) -> None:
    sources = container_of(workers_of(pool))["envFrom"]
    assert [each["configMapRef"]["name"] for each in sources if "configMapRef" in each] == ["lathe-settings"]
    own = f"lathe-worker-{device_of(pool).id}"
    assert {each["secretRef"]["name"] for each in sources if "secretRef" in each} == {"lathe-bus", "lathe-store", own}
    assert pod_of(workers_of(pool))["serviceAccountName"] == "workers"
    assert "LATHE_NATS_URL" not in shared_settings()
