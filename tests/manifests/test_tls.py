"""The component that gives an overlay TLS."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from services.platform.settings import DEFAULT_PORTS, Settings
from tests.manifests import keda
from tests.manifests.deployed import built, container_of, environment_of, pod_of
from tests.manifests.network import Network, Pod

CERTIFICATE = {"tls.crt", "tls.key", "ca.crt"}


@pytest.fixture(scope="module")
def resources(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], ...]:
    """Return what kustomize makes of `production` with TLS."""
    folder = tmp_path_factory.mktemp("tls") / "kubernetes"
    shutil.copytree(tree, folder)
    file = folder / "overlays/production/kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("  - ../../pools/cpu-arm64\n", "  - ../../pools/cpu-arm64\n  - ../../tls\n"))
    return built(file.parent)


def of_kind(resources: tuple[dict[str, Any], ...], *kinds: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in resources if each["kind"] in kinds}


def settings_of(resources: tuple[dict[str, Any], ...]) -> dict[str, str]:
    (found,) = [each["data"] for name, each in of_kind(resources, "ConfigMap").items() if name.startswith("lathe-set")]
    return dict(found)


def test_it_is_what_kubernetes_and_keda_take(resources: tuple[dict[str, Any], ...]) -> None:
    for each in resources:
        if each["apiVersion"].startswith("keda.sh/"):
            keda.validate(each)
        else:
            kubernetes_validate.validate(each, "1.30", strict=True)


def test_services_have_certificates_and_three_ports(resources: tuple[dict[str, Any], ...]) -> None:
    shared = settings_of(resources)
    for name, port in DEFAULT_PORTS.items():
        workload = of_kind(resources, "Deployment")[name]
        own = environment_of(workload)
        internal, probes = int(own["LATHE_INTERNAL_PORT"]), int(own["LATHE_PROBE_PORT"])
        container = container_of(workload)
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert (ports["grpc"], ports["internal"], ports["probes"]) == (port, internal, probes)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["grpc"]["port"] == probes
        (mounted,) = [each for each in container["volumeMounts"] if each["name"] == "tls"]
        files = {shared[f"LATHE_TLS_{what}_FILE"] for what in ("CERT", "KEY", "CA")}
        assert files == {f"{mounted['mountPath']}/{file}" for file in CERTIFICATE}
        # Siblings meet at the internal port: the certificate that makes a service is for the host of this address.
        assert shared[f"LATHE_{name.upper()}_ADDRESS"] == f"{name}:{internal}"
        served = {each["name"]: each["port"] for each in of_kind(resources, "Service")[name]["spec"]["ports"]}
        assert served == {"grpc": port, "internal": internal}
    addresses = {key.lower().removeprefix("lathe_"): value for key, value in shared.items() if key.endswith("_ADDRESS")}
    assert Settings.model_validate(addresses).sibling_hosts == set(DEFAULT_PORTS)


def test_workers_have_the_authority_and_no_key(resources: tuple[dict[str, Any], ...]) -> None:
    workers = [
        each
        for each in of_kind(resources, "Deployment", "ScaledJob").values()
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
    ]
    assert len(workers) >= 2
    for each in workers:
        (volume,) = [volume["secret"] for volume in pod_of(each)["volumes"] if volume["name"] == "tls"]
        assert [item["key"] for item in volume["items"]] == ["ca.crt"]


def test_keda_trusts_the_authority_of_every_trigger(resources: tuple[dict[str, Any], ...]) -> None:
    (told,) = of_kind(resources, "TriggerAuthentication").values()
    assert told["spec"]["secretTargetRef"] == [{"parameter": "caCert", "name": "lathe-tls", "key": "ca.crt"}]
    triggers = [
        trigger
        for each in of_kind(resources, "ScaledObject", "ScaledJob").values()
        for trigger in each["spec"]["triggers"]
    ]
    assert triggers
    assert {trigger["authenticationRef"]["name"] for trigger in triggers} == {told["metadata"]["name"]}


def test_only_services_reach_the_internal_port(resources: tuple[dict[str, Any], ...]) -> None:
    network = Network([*of_kind(resources, "NetworkPolicy").values()])

    def pod(name: str, component: str) -> Pod:
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": component}
        return Pod(name, labels, "lathe", ports={"grpc": 50053, "internal": 50060, "probes": 50061})

    registry, converter = pod("registry", "api"), pod("converter", "api")
    worker = pod("worker-cpu-x86-64", "worker")
    gateway = Pod("gateway", {}, "gateway", {"lathe/clients": "true"})
    assert network.allows(registry, converter, 50060)
    assert network.allows(converter, registry, 50060)
    assert not network.allows(worker, converter, 50060)
    assert network.takes(gateway, converter, 50053)
    assert not network.takes(gateway, converter, 50060)
