"""Who may talk to whom in a cluster is exactly who does, by the code and by the secrets that each pod has."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from services.local.roster import SERVICES
from tests.manifests.deployed import (
    KUBERNETES,
    ROOT,
    built,
    container_of,
    documents,
    is_worker,
    shared_settings,
    template_of,
    workloads,
)
from tests.manifests.network import Network, Pod

PORTS = {service.name: service.port for service in SERVICES}
STORES = {"postgres": 5432, "nats": 4222, "minio": 9000}
SECRETS = {"lathe-database": "postgres", "lathe-bus": "nats", "lathe-store": "minio"}
# As KEDA's own manifest and its chart label and place it (config/manager/manager.yaml of kedacore/keda, v2.20).
KEDA = Pod("keda", {"app": "keda-operator", "name": "keda-operator"}, "keda")
OUTSIDE = [
    KEDA,
    Pod("keda-metrics", {"app": "keda-metrics-apiserver"}, "keda"),
    Pod("keda-elsewhere", KEDA.labels, "somebody"),
    Pod("gateway", {"app": "gateway"}, "gateways", {"lathe/clients": "true"}),
    Pod("prometheus", {"app": "prometheus"}, "monitoring", {"lathe/metrics": "true"}),
    Pod("collector", {"app": "collector"}, "tracing", {"lathe/traces": "true"}),
    Pod("stranger", {"app": "stranger"}, "somebody", ports={"grpc": 50051}),
]
DNS = Pod("dns", {"k8s-app": "kube-dns"}, "kube-system", ports={"dns": 53})


def pod_from(workload: dict[str, Any]) -> Pod:
    container = container_of(workload)
    return Pod(
        workload["metadata"]["name"],
        template_of(workload)["metadata"]["labels"],
        workload["metadata"].get("namespace", "lathe"),
        ports={each["name"]: each["containerPort"] for each in container["ports"]},
    )


@pytest.fixture(scope="module")
def resources(tree: Path) -> tuple[dict[str, Any], ...]:
    accelerated = documents(KUBERNETES / "pools/nvidia-t4/pool.yaml")
    return (*built(tree / "overlays/complete"), *accelerated)


def policies_of(resources: tuple[dict[str, Any], ...]) -> Network:
    return Network([each for each in resources if each["kind"] == "NetworkPolicy"])


def siblings() -> set[tuple[str, str]]:
    """Return which service opens channels to which, as the code does."""
    found = set()
    own = {name: ROOT / "services" / name for name in PORTS}
    shared = [each for each in (ROOT / "services").iterdir() if each.is_dir() and each not in own.values()]
    everybody = set(itertools.chain.from_iterable(map(_channels, shared)))
    for name, folder in own.items():
        for other in {*_channels(folder), *everybody}:
            found |= {(name, each) for each in ([other] if other in PORTS else PORTS)}
    return found


def _channels(folder: Path) -> set[str]:
    """Return the words in all calls of `.channel(…)` in a folder: names of services, or a variable for each of them."""
    text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    return set(re.findall(r'\.channel\("?(\w+)"?\)', text))


def wanted(resources: tuple[dict[str, Any], ...]) -> set[tuple[str, str, int]]:
    metrics = int(shared_settings()["LATHE_METRICS_PORT"])
    found = {(source, target, PORTS[target]) for source, target in siblings()}
    for each in workloads(resources):
        name = each["metadata"]["name"]
        secrets = [source["secretRef"]["name"] for source in container_of(each)["envFrom"] if "secretRef" in source]
        stores = {store for secret, store in SECRETS.items() if any(given.startswith(secret) for given in secrets)}
        found |= {(name, store, STORES[store]) for store in stores}
        found |= {("prometheus", name, metrics), (name, "collector", 4317)}
        if not is_worker(each):
            found.add(("gateway", name, PORTS[name]))
    for each in resources:
        if each["kind"] in {"ScaledObject", "ScaledJob"}:
            asked = [trigger["metadata"]["scalerAddress"] for trigger in each["spec"]["triggers"]]
            found |= {("keda", address.partition(".")[0], int(address.rpartition(":")[2])) for address in asked}
    return found | {("nats", "nats", 6222), ("minio", "minio", 9000), ("gateway", "minio", 9000)}


def test_pods_reach_what_they_need_and_nothing_else(resources: tuple[dict[str, Any], ...]) -> None:
    inside = [pod_from(each) for each in resources if each["kind"] in {"Deployment", "StatefulSet", "ScaledJob"}]
    assert len(inside) >= 6 + 3 + 3
    network, expected = policies_of(resources), wanted(resources)
    pods = [*inside, Pod("unlabelled", {}, "lathe"), *OUTSIDE]
    ours = {each.name for each in pods if each.namespace == "lathe"}
    ports = {*PORTS.values(), *STORES.values(), 6222, 8222, 9464, 4317, 22, 443}
    # Each end by itself: either of them keeps to it if the other is told too much.
    for end, sides in ((network.sends, [0]), (network.takes, [1]), (network.allows, [0, 1])):
        found = {
            (source.name, target.name, port)
            for source, target, port in itertools.product(pods, pods, ports)
            if end(source, target, port)
        }
        # What others do among themselves is not ours to say.
        assert {each for each in found if any(each[side] in ours for side in sides)} == {
            each for each in expected if any(each[side] in ours for side in sides)
        }


def test_the_code_says_who_asks_whom() -> None:
    """What the other test expects of services comes from reading the code, which has to find something."""
    found = siblings()
    assert {("converter", "template"), ("template", "registry"), ("registry", "evaluator")} <= found
    assert not {("converter", "evaluator"), ("evaluator", "template"), ("template", "converter")} & found


def test_every_pod_can_ask_for_names_and_nobody_asks_it(resources: tuple[dict[str, Any], ...]) -> None:
    network = policies_of(resources)
    others = [*OUTSIDE, Pod("disguised", DNS.labels, "somebody"), Pod("system", {"k8s-app": "other"}, DNS.namespace)]
    for each in resources:
        if each["kind"] in {"Deployment", "StatefulSet", "ScaledJob"}:
            pod = pod_from(each)
            for protocol in ("UDP", "TCP"):
                assert network.allows(pod, DNS, 53, protocol)
                assert not network.takes(DNS, pod, 53, protocol)
                assert not any(network.sends(pod, other, 53, protocol) for other in (*others, pod))
            assert not network.sends(pod, DNS, 443)


def test_stores_of_other_namespaces_are_reached_too(tree: Path) -> None:
    resources = built(tree / "overlays/production")
    network = policies_of(resources)
    stores = [Pod(name, {"app.kubernetes.io/name": name}, name) for name in STORES]
    pods = [pod_from(each) for each in workloads(resources)]
    names = {pod.name for pod in pods}
    found = {
        (source.name, target.name, port)
        for source, target, port in itertools.product(pods, stores, STORES.values())
        if network.allows(source, target, port)
    }
    assert found == {each for each in wanted(resources) if each[1] in STORES and each[0] in names}
