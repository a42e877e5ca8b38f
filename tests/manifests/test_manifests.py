"""What is deployed agrees with what is in the repository: devices, services, settings, extras."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from engines.spec.devices import load_catalog
from services.evaluator import comparer
from services.local.roster import SERVICES, WORKERS, ServiceEntry
from services.platform.settings import Settings
from services.registry import descriptions
from services.registry.datasets import imports, job, preview
from tests.manifests.deployed import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    HEADROOM,
    KUBERNETES,
    ROOT,
    bytes_of,
    compose,
    container_of,
    deployments,
    documents,
    environment_of,
    is_worker,
    manifest_files,
    pod_of,
    shared_settings,
)

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
COMPONENTS = [path.parent for path in (KUBERNETES / "components").glob("*/kustomization.yaml")]
TREES = ["base", "overlays/small", "overlays/production"]
BUILDABLE = {name: device for name, device in load_catalog().devices.items() if device.buildable_runtimes}
DEPLOYMENTS = {each["metadata"]["name"]: each for each in deployments()}
APIS = [name for name, each in DEPLOYMENTS.items() if not is_worker(each)]
ACCELERATED = {each["metadata"]["name"] for path in COMPONENTS for each in documents(path / "pools.yaml")}
POOLS = [each for each in DEPLOYMENTS.values() if is_worker(each)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def built(tree: str) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed here")
    command = ["kubectl", "kustomize", str(KUBERNETES / tree)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return list(yaml.safe_load_all(told.stdout))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", manifest_files(), ids=lambda path: path.relative_to(KUBERNETES).as_posix())
def test_a_manifest_is_what_kubernetes_takes(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("tree", TREES)
def test_kustomize_builds_what_kubernetes_takes(tree: str) -> None:
    resources = built(tree)
    for resource in resources:
        kubernetes_validate.validate(resource, OLDEST, strict=True)
    assert {each["metadata"]["name"] for each in resources if each["kind"] == "Deployment"} == set(
        DEPLOYMENTS
    ) - ACCELERATED
    assert all(each["metadata"].get("namespace") == "lathe" for each in resources if each["kind"] != "Namespace")


@pytest.mark.parametrize(("tree", "fewest"), [("overlays/small", 1), ("overlays/production", 2)])
def test_an_overlay_says_how_many_replicas_there_are(tree: str, fewest: int) -> None:
    resources = built(tree)
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicas"]
        for each in resources
        if each["kind"] == "HorizontalPodAutoscaler"
    }
    for each in resources:
        if each["kind"] == "Deployment":
            name, own = each["metadata"]["name"], each["spec"].get("replicas")
            assert (own is None) == (name in scaled), f"{name}: its autoscaler and its manifest would fight"
            assert scaled.get(name, own) >= fewest


def test_an_overlay_adds_the_pools_of_accelerators(tmp_path: Path) -> None:
    base, *components = (os.path.relpath(each, tmp_path.resolve()) for each in (KUBERNETES / "base", *COMPONENTS))
    overlay = {"resources": [base], "components": components}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    made = {each["metadata"]["name"]: each for each in built(str(tmp_path)) if each["kind"] == "Deployment"}
    assert set(made) == set(DEPLOYMENTS)
    settings = {container_of(each)["envFrom"][0]["configMapRef"]["name"] for each in made.values()}
    assert len(settings) == 1, "all pods read the settings of this overlay"
    assert {container_of(made[name])["image"].rpartition(":")[2] for name in ACCELERATED} == {PROJECT["version"]}


def test_every_file_of_resources_belongs_to_a_tree() -> None:
    named = set[Path]()
    for tree in [*(KUBERNETES / each for each in TREES), *COMPONENTS]:
        (kustomization,) = documents(tree / "kustomization.yaml")
        named |= {(tree / each).resolve() for each in kustomization["resources"]}
    assert set(manifest_files()) <= named


def test_the_components_are_those_of_the_catalog() -> None:
    path = KUBERNETES / "components/pools.py"
    made: dict[str, Any] = runpy.run_path(str(path))
    devices = made["accelerators"]()
    assert {each.id for each in devices} == {folder.name for folder in COMPONENTS}
    for device in devices:
        for name, text in made["component"](device).items():
            told = f"run {path.relative_to(ROOT)}"
            assert (path.parent / device.id / name).read_text(encoding="utf-8") == text, told


def test_the_images_carry_the_version_of_the_project() -> None:
    folders = [KUBERNETES / "base", *COMPONENTS]
    named = [each for folder in folders for each in documents(folder / "kustomization.yaml")[0]["images"]]
    tags = {each["name"]: each["newTag"] for each in named}
    assert tags == {container_of(each)["image"]: PROJECT["version"] for each in DEPLOYMENTS.values()}
    targets = {
        f"lathe-{target}"
        for target in re.findall(
            r"^FROM (?!worker-)\S+ AS (?!build-|role$)(\S+)$", DOCKERFILE.read_text(), re.MULTILINE
        )
    }
    assert targets == set(tags)  # one that extends a worker's is named by an overlay (`newName`)
    ours = [each for each in compose()["services"].values() if "build" in each]
    # Docker Compose has no Ascend: its devices are Kubernetes' to give.
    assert {each["image"] for each in ours} == {f"{name}:{tag}" for name, tag in tags.items()} - {
        f"lathe-worker-ascend:{PROJECT['version']}"
    }
    assert all(each["image"].startswith(f"lathe-{each['build']['target']}:") for each in ours)


@pytest.mark.parametrize("name", [name for name, each in DEPLOYMENTS.items()])
def test_a_pod_has_no_privileges(name: str) -> None:
    pod, container = pod_of(DEPLOYMENTS[name]), container_of(DEPLOYMENTS[name])
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
    assert pod["automountServiceAccountToken"] is False
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_has_the_time_that_it_takes_to_drain(name: str) -> None:
    told = {**shared_settings(), **environment_of(DEPLOYMENTS[name])}
    grace = pod_of(DEPLOYMENTS[name])["terminationGracePeriodSeconds"]
    assert grace > float(told["LATHE_DRAIN_SECONDS"]) + float(told["LATHE_SHUTDOWN_PAUSE_SECONDS"])


@pytest.mark.parametrize("name", sorted({each.module for each in (*WORKERS, *SERVICES)}))
def test_what_is_started_exists(name: str) -> None:
    assert find_spec(name)
    assert name in {container_of(each)["args"][0] for each in DEPLOYMENTS.values()}
    assert name in {each["command"][0] for each in compose()["services"].values() if "build" in each}


def test_the_name_of_every_setting_exists() -> None:
    known = {f"LATHE_{field.upper()}" for field in Settings.model_fields}
    table = re.findall(r"LATHE_[A-Z0-9_]+", (ROOT / "services" / "README.md").read_text(encoding="utf-8"))
    for path in filter(Path.is_file, DEPLOY.rglob("*")):
        used = set(re.findall(r"LATHE_[A-Z0-9_]+", path.read_text(encoding="utf-8")))
        assert used <= known | set(table), path


def test_the_values_of_the_settings_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for deployment in DEPLOYMENTS.values():
        with monkeypatch.context() as environment:
            for name, value in {**shared_settings(), **environment_of(deployment)}.items():
                environment.setenv(name, value)
            Settings()


def test_every_kind_of_task_has_one_pool_for_each_device_that_can_be_built_for_and_no_other_has() -> None:
    found = [(environment_of(pool)["LATHE_KINDS"], environment_of(pool)["LATHE_DEVICE"]) for pool in POOLS]
    assert sorted(found) == sorted((worker.kind, device) for worker in WORKERS for device in BUILDABLE)


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool["metadata"]["name"])
def test_a_pool_agrees_with_its_device(pool: dict[str, Any]) -> None:
    device = BUILDABLE[environment_of(pool)["LATHE_DEVICE"]]
    (worker,) = (each for each in WORKERS if each.kind == environment_of(pool)["LATHE_KINDS"])
    assert container_of(pool)["args"] == [worker.module]
    assert pool["metadata"]["name"] == f"worker-{worker.kind}-{device.id}"
    building = {} if worker.runs_forms else device.pod.builders
    assert pod_of(pool)["nodeSelector"] == (building or device.pod.node_selector)
    assert container_of(pool)["image"] == f"lathe-worker-{device.pod.image}"
    taints = [taint.model_dump(exclude_defaults=True) for taint in device.pod.tolerations]
    assert [{"operator": "Exists", **taint} for taint in pod_of(pool).get("tolerations", [])] == [
        {"operator": "Exists", **taint} for taint in taints
    ]
    resources = container_of(pool)["resources"]
    assert device.pod.resources.items() <= resources["limits"].items()
    assert bytes_of(resources["limits"]["memory"]) == device.memory_limit_bytes + HEADROOM
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_what_reads_strangers_files_has_memory_for_all_its_children_at_once() -> None:
    most = {
        "registry": descriptions._SLOTS * descriptions.LIMITS.memory_bytes
        + imports.AT_ONCE * job.LIMITS.memory_bytes
        + preview._AT_ONCE * preview.LIMITS.memory_bytes,
        "evaluator": comparer.SLOTS * comparer.LIMITS.memory_bytes,
    }
    for name, taken in most.items():
        # The kernel ends all of a container that takes more, not the child that did.
        limit = container_of(DEPLOYMENTS[name])["resources"]["limits"]["memory"]
        assert bytes_of(limit) == taken + HEADROOM, name


@pytest.mark.parametrize("name", ["registry", *(each["metadata"]["name"] for each in POOLS)])
def test_what_works_on_files_has_a_disk_that_holds_its_cache(name: str) -> None:
    told = environment_of(DEPLOYMENTS[name])
    (volume,) = [
        each["name"]
        for each in container_of(DEPLOYMENTS[name])["volumeMounts"]
        if each["mountPath"] == told["LATHE_DATA_DIR"]
    ]
    (disk,) = [each["emptyDir"] for each in pod_of(DEPLOYMENTS[name])["volumes"] if each["name"] == volume]
    assert bytes_of(disk["sizeLimit"]) >= 4 * int(told["LATHE_CACHE_BYTES"])


def test_workers_have_the_credentials_of_the_bus_and_the_store_alone() -> None:
    for pool in POOLS:
        sources = container_of(pool)["envFrom"]
        assert {each["secretRef"]["name"] for each in sources if "secretRef" in each} == {"lathe-bus", "lathe-store"}


def test_every_pool_is_held_by_the_network_policy() -> None:
    (policy,) = documents(KUBERNETES / "base/workers/network-policy.yaml")
    wanted = policy["spec"]["podSelector"]["matchLabels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for pool in POOLS:
        assert wanted <= pool["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {4222, 9000, 53}
    assert all(rule["to"] for rule in policy["spec"]["egress"]), "a rule without `to` allows every address"


def test_no_secret_is_committed_and_every_named_one_is_explained() -> None:
    assert not [each for path in manifest_files() for each in documents(path) if each["kind"] == "Secret"]
    explained = set(
        re.findall(r"^#   (lathe-\w+) ", (KUBERNETES / "base/kustomization.yaml").read_text(), re.MULTILINE)
    )
    named = set[str]()
    for deployment in DEPLOYMENTS.values():
        sources = container_of(deployment)["envFrom"]
        named |= {each["secretRef"]["name"] for each in sources if "secretRef" in each}
        named |= {each["secret"]["secretName"] for each in pod_of(deployment)["volumes"] if "secret" in each}
    assert named == explained
    lines = (COMPOSE.parent / ".env.example").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") or not line.partition("=")[2] for line in lines)


def test_a_cluster_asks_for_tokens() -> None:
    told = [shared_settings(), *map(environment_of, DEPLOYMENTS.values())]
    assert not any("LATHE_AUTH" in each for each in told)
    assert "LATHE_AUTH_TOKENS_FILE" in shared_settings()


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_is_deployed(service: ServiceEntry) -> None:
    deployment = DEPLOYMENTS[service.name]
    container = container_of(deployment)
    assert container["args"] == [service.module]
    assert environment_of(deployment)["LATHE_PORT"] == str(service.port)
    assert service.port in {each["containerPort"] for each in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == service.port
    # An outage of PostgreSQL must take the service out of the balancer, and restart nothing.
    assert container["livenessProbe"]["grpc"]["service"] == "live"
    assert "service" not in container["readinessProbe"]["grpc"]
    found = {each["kind"]: each for each in documents(KUBERNETES / f"base/{service.name}.yaml")}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["metadata"]["name"] == service.name
    assert [each["port"] for each in found["Service"]["spec"]["ports"]] == [service.port]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert shared_settings()[service.address_variable] == f"{service.name}:{service.port}"


def test_nothing_is_deployed_that_is_no_service() -> None:
    assert sorted(APIS) == sorted(each.name for each in SERVICES)
