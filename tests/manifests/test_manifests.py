"""What is deployed agrees with what is in the repository: devices, services, settings, extras."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import pytest

from services.evaluator import comparer
from services.local.roster import SERVICES, WORKERS, ServiceEntry
from services.platform.settings import Settings
from services.registry import descriptions
from services.registry.datasets import imports, job, preview
from tests.manifests import keda
from tests.manifests.deployed import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    HEADROOM,
    KUBERNETES,
    OVERLAYS,
    ROOT,
    bytes_of,
    compose,
    container_of,
    documents,
    environment_of,
    is_worker,
    manifest_files,
    pod_of,
    shared_settings,
    workloads,
)

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
WORKLOADS = {each["metadata"]["name"]: each for each in workloads()}
APIS = [name for name, each in WORKLOADS.items() if not is_worker(each)]
POOLS = [each for each in WORKLOADS.values() if is_worker(each)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", manifest_files(), ids=lambda path: path.relative_to(KUBERNETES).as_posix())
def test_a_manifest_is_what_kubernetes_takes(path: Path, version: str) -> None:
    for document in documents(path):
        if document["apiVersion"].startswith("keda.sh/"):
            keda.validate(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)
        if document["kind"] == "ScaledJob":
            of_it = {"apiVersion": "batch/v1", "kind": "Job", "spec": document["spec"]["jobTargetRef"]}
            kubernetes_validate.validate(of_it, version, strict=True)


def test_every_file_of_resources_belongs_to_a_tree() -> None:
    named = set[Path]()
    for tree in [
        KUBERNETES / "base",
        KUBERNETES / "tls",
        *(KUBERNETES / each for each in OVERLAYS),
        *KUBERNETES.glob("pools/*/"),
    ]:
        (kustomization,) = documents(tree / "kustomization.yaml")
        named |= {(tree / each).resolve() for each in kustomization["resources"]}
    assert set(manifest_files()) <= named


def test_the_images_carry_the_version_of_the_project() -> None:
    folders = [KUBERNETES / "base", *KUBERNETES.glob("pools/*/")]
    named = [each for folder in folders for each in documents(folder / "kustomization.yaml")[0]["images"]]
    tags = {each["name"]: each["newTag"] for each in named}
    assert tags == {container_of(each)["image"]: PROJECT["version"] for each in WORKLOADS.values()}
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


@pytest.mark.parametrize("name", [name for name, each in WORKLOADS.items()])
def test_a_pod_has_no_privileges(name: str) -> None:
    pod, container = pod_of(WORKLOADS[name]), container_of(WORKLOADS[name])
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
    assert pod["automountServiceAccountToken"] is False
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_has_the_time_that_it_takes_to_drain(name: str) -> None:
    told = {**shared_settings(), **environment_of(WORKLOADS[name])}
    grace = pod_of(WORKLOADS[name])["terminationGracePeriodSeconds"]
    assert grace > float(told["LATHE_DRAIN_SECONDS"]) + float(told["LATHE_SHUTDOWN_PAUSE_SECONDS"])


@pytest.mark.parametrize("name", sorted({each.module for each in (*WORKERS, *SERVICES)}))
def test_what_is_started_exists(name: str) -> None:
    assert find_spec(name)
    assert name in {container_of(each)["args"][0] for each in WORKLOADS.values()}
    assert name in {each["command"][0] for each in compose()["services"].values() if "build" in each}


def test_the_name_of_every_setting_exists() -> None:
    known = {f"LATHE_{field.upper()}" for field in Settings.model_fields}
    table = re.findall(r"LATHE_[A-Z0-9_]+", (ROOT / "services" / "README.md").read_text(encoding="utf-8"))
    for path in filter(Path.is_file, DEPLOY.rglob("*")):
        used = set(re.findall(r"LATHE_[A-Z0-9_]+", path.read_text(encoding="utf-8")))
        assert used <= known | set(table), path


def test_the_values_of_the_settings_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in WORKLOADS.values():
        with monkeypatch.context() as environment:
            for name, value in {**shared_settings(), **environment_of(workload)}.items():
                environment.setenv(name, value)
            Settings()


def test_what_reads_strangers_files_has_memory_for_all_its_children_at_once() -> None:
    most = {
        "registry": descriptions._SLOTS * descriptions.LIMITS.memory_bytes
        + imports.AT_ONCE * job.LIMITS.memory_bytes
        + preview._AT_ONCE * preview.LIMITS.memory_bytes,
        "evaluator": comparer.SLOTS * comparer.LIMITS.memory_bytes,
    }
    for name, taken in most.items():
        # The kernel ends all of a container that takes more, not the child that did.
        limit = container_of(WORKLOADS[name])["resources"]["limits"]["memory"]
        assert bytes_of(limit) == taken + HEADROOM, name


@pytest.mark.parametrize("name", ["registry", *(each["metadata"]["name"] for each in POOLS)])
def test_what_works_on_files_has_a_disk_that_holds_its_cache(name: str) -> None:
    told = environment_of(WORKLOADS[name])
    (volume,) = [
        each["name"]
        for each in container_of(WORKLOADS[name])["volumeMounts"]
        if each["mountPath"] == told["LATHE_DATA_DIR"]
    ]
    (disk,) = [each["emptyDir"] for each in pod_of(WORKLOADS[name])["volumes"] if each["name"] == volume]
    assert bytes_of(disk["sizeLimit"]) >= 4 * int(told["LATHE_CACHE_BYTES"])


def test_workers_have_the_credentials_of_the_bus_and_the_store_alone() -> None:
    for pool in POOLS:
        sources = container_of(pool)["envFrom"]
        own = f"lathe-worker-{environment_of(pool)['LATHE_DEVICE']}"
        assert [each["secretRef"] for each in sources if "secretRef" in each] == [
            {"name": "lathe-bus"},
            {"name": "lathe-store"},
            {"name": own, "optional": True},  # the last one counts
        ]


def test_no_secret_is_committed_and_every_named_one_is_explained() -> None:
    assert not [each for path in manifest_files() for each in documents(path) if each["kind"] == "Secret"]
    explained = set(
        re.findall(r"^#   (lathe-\w+) ", (KUBERNETES / "base/kustomization.yaml").read_text(), re.MULTILINE)
    )
    named = set[str]()
    for workload in WORKLOADS.values():
        sources = container_of(workload)["envFrom"]
        named |= {each["secretRef"]["name"] for each in sources if "secretRef" in each}
        named |= {each["secret"]["secretName"] for each in pod_of(workload)["volumes"] if "secret" in each}
    # What all have is explained by its name, what a role has by examples.
    roles = {f"lathe-{service.name}" for service in SERVICES} | {
        name for name in named if name.startswith("lathe-worker-")
    }
    assert named - roles == explained
    lines = (COMPOSE.parent / ".env.example").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") or not line.partition("=")[2] for line in lines)


def test_a_cluster_asks_for_tokens() -> None:
    told = [shared_settings(), *map(environment_of, WORKLOADS.values())]
    assert not any("LATHE_AUTH" in each for each in told)
    assert "LATHE_AUTH_TOKENS_FILE" in shared_settings()


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_is_deployed(service: ServiceEntry) -> None:
    workload = WORKLOADS[service.name]
    container = container_of(workload)
    assert container["args"] == [service.module]
    assert environment_of(workload)["LATHE_PORT"] == str(service.port)
    assert service.port in {each["containerPort"] for each in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == service.port
    # An outage of PostgreSQL must take the service out of the balancer, and restart nothing.
    assert container["livenessProbe"]["grpc"]["service"] == "live"
    assert "service" not in container["readinessProbe"]["grpc"]
    found = {each["kind"]: each for each in documents(KUBERNETES / f"base/{service.name}.yaml")}
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["metadata"]["name"] == service.name
    assert [each["port"] for each in found["Service"]["spec"]["ports"]] == [service.port]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert shared_settings()[service.address_variable] == f"{service.name}:{service.port}"


def test_nothing_is_deployed_that_is_no_service() -> None:
    assert sorted(APIS) == sorted(each.name for each in SERVICES)
