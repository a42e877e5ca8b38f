"""What kustomize makes of the overlays: whole, and with everything that their parts name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from engines.spec.devices import load_catalog
from services.local.roster import SERVICES
from services.platform.tokens import hash_of, read_tokens
from tests.manifests import keda
from tests.manifests.deployed import OVERLAYS, built, compose, container_of, pod_of, workloads

KNOWN = {"Deployment", "StatefulSet", "ScaledJob"}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, tree: Path) -> tuple[dict[str, Any], ...]:
    return built(tree / request.param)


def pods(resources: tuple[dict[str, Any], ...]) -> Iterator[dict[str, Any]]:
    yield from (pod_of(each) for each in resources if each["kind"] in KNOWN)


def names(resources: tuple[dict[str, Any], ...], kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in resources if each["kind"] == kind}


def references(value: Any, key: str) -> Iterator[str]:
    """Yield the names in all objects below `key`, such as `secretRef: {name: …}`, at any depth."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name == key:
                yield below if isinstance(below, str) else below["name"]
            yield from references(below, key)
    elif isinstance(value, list):
        for below in value:
            yield from references(below, key)


def test_an_overlay_is_what_kubernetes_and_keda_take(overlay: tuple[dict[str, Any], ...]) -> None:
    for each in overlay:
        if each["apiVersion"].startswith("keda.sh/"):
            keda.validate(each)
        else:
            kubernetes_validate.validate(each, "1.30", strict=True)
        assert each["metadata"].get("namespace") == "lathe" or each["kind"] == "Namespace"
    identities = [(each["kind"], each["metadata"]["name"]) for each in overlay]
    assert len(identities) == len(set(identities))


def test_whatever_a_pod_names_is_in_the_overlay(overlay: tuple[dict[str, Any], ...], request: Any) -> None:
    found = [*pods(overlay)]
    assert len(found) >= 8
    for key, kind in {
        "configMapRef": "ConfigMap",
        "configMap": "ConfigMap",
        "serviceAccountName": "ServiceAccount",
    }.items():
        assert set(references(found, key)) <= names(overlay, kind), key
    secrets = {name for key in ("secretRef", "secretKeyRef", "secretName") for name in references(found, key)}
    assert len(secrets) >= 5
    # Only `complete` makes them itself; the others tell who installs them.
    made = names(overlay, "Secret")
    if not names(overlay, "StatefulSet"):
        assert not made
        return
    assert secrets <= made
    assert all(name.startswith("lathe-worker-") for name in made - secrets), "of pools that may be added"


@pytest.mark.parametrize(("name", "fewest"), [*zip(OVERLAYS, (1, 2, 2), strict=True)])
def test_something_says_how_many_there_are_of_each(tree: Path, name: str, fewest: int) -> None:
    resources = built(tree / name)
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"].get("minReplicas", 0)
        for each in resources
        if each["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    }
    deployments = [each for each in resources if each["kind"] == "Deployment"]
    for each in deployments:
        own, scaler = each["spec"].get("replicas"), scaled.get(each["metadata"]["name"])
        assert (own is None) == (scaler is not None), (
            f"{each['metadata']['name']}: its scaler and its manifest would fight"
        )
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "api":
            assert (own or scaler or 0) >= fewest
    assert scaled.keys() <= {each["metadata"]["name"] for each in deployments}


def test_small_needs_no_keda(tree: Path) -> None:
    assert not [each for each in built(tree / "overlays/small") if "keda" in each["apiVersion"]]


def test_an_overlay_takes_any_pool(tree: Path) -> None:
    folder = tree / "overlays/all"
    folder.mkdir()
    components = sorted(f"../../pools/{path.parent.name}" for path in tree.glob("pools/*/pool.yaml"))
    overlay = {"resources": ["../complete"], "components": components[:]}
    overlay["components"] = [each for each in components if not each.endswith(("x86-64", "arm64"))]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    resources = built(folder)
    made = {each["metadata"]["name"] for each in workloads(resources)}
    assert {f"worker-{path.parent.name}" for path in tree.glob("pools/*/pool.yaml")} <= made
    # Also in ScaledJobs, which kustomize does not know: names with digests, and versions of images.
    (settings,) = {name for name in names(resources, "ConfigMap") if name.startswith("lathe-")}
    for each in workloads(resources):
        assert container_of(each)["envFrom"][0]["configMapRef"]["name"] == settings != "lathe-settings"
        assert ":" in container_of(each)["image"]
        assert set(references(each, "secretRef")) <= names(resources, "Secret")


def test_the_stores_of_a_cluster_are_those_of_the_compose_file(tree: Path) -> None:
    ours = {
        pod_of(each)["containers"][0]["image"]
        for each in built(tree / "overlays/complete")
        if each["kind"] == "StatefulSet"
    }
    assert ours == {compose()["services"][name]["image"] for name in ("postgres", "nats", "minio")}
    for image in ours:
        assert re.search(r":(\d+\.\d+|RELEASE\.)", image), f"{image} is not pinned"


def test_a_store_has_no_privileges_a_volume_and_a_place_of_its_own(tree: Path) -> None:
    resources = built(tree / "overlays/complete")
    stores = [each for each in resources if each["kind"] == "StatefulSet"]
    for each in stores:
        pod, container = pod_of(each), container_of(each)
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {probe for probe in container if probe.endswith("Probe")} == {
            "startupProbe",
            "livenessProbe",
            "readinessProbe",
        }
        (claim,) = each["spec"]["volumeClaimTemplates"]
        assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}
        assert each["spec"]["serviceName"] in names(resources, "Service")
        if each["spec"]["replicas"] > 1:
            assert pod["topologySpreadConstraints"]
            assert each["metadata"]["name"] in names(resources, "PodDisruptionBudget")


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_passwords_are_made_once_and_belong_together(tree: Path, tmp_path: Path) -> None:
    for name in ("secrets.sh", ".gitignore"):
        shutil.copy(tree / "overlays/complete" / name, tmp_path)
    script = [str(tmp_path / "secrets.sh")]
    first = subprocess.run(script, capture_output=True, text=True, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    token = re.findall(r"LATHE_TOKEN=(\w+)", first.stderr)[0]
    (known,) = read_tokens(tmp_path / "secrets/tokens.json")
    assert (known.user, known.sha256) == ("admin", hash_of(token))
    assert token not in made["tokens.json"]
    owner, bus, store = (settings(made[f"{name}.env"]) for name in ("database-owner", "nats", "minio"))
    assert f"lathe:{settings(made['postgres.env'])['POSTGRES_PASSWORD']}@postgres" in owner["LATHE_DATABASE_URL"]
    workers = [f"worker-{device.id}" for device in load_catalog().devices.values() if device.buildable_runtimes]
    for name in [service.name for service in SERVICES] + workers + ["watcher"]:
        told, variable = settings(made[f"{name}.env"]), name.upper().replace("-", "_")
        if name in {service.name for service in SERVICES}:
            password = owner[f"POSTGRES_PASSWORD_{variable}"]
            assert told["LATHE_DATABASE_URL"] == f"postgresql://lathe_{name}:{password}@postgres:5432/lathe"
        if name != "template":
            assert told["LATHE_NATS_URL"] == f"nats://{name}:{bus[f'NATS_PASSWORD_{variable}']}@nats:4222"
        if name not in ("template", "watcher"):
            role = "registry" if name == "registry" else "worker" if name in workers else "tasks"
            assert told["LATHE_S3_ACCESS_KEY"] == role
            assert told["LATHE_S3_SECRET_KEY"] == store[f"S3_PASSWORD_{role.upper()}"]
        assert ("LATHE_DATABASE_URL" in told) == (name not in workers and name != "watcher")
    token_of_services = settings(made["service.env"])["LATHE_SERVICE_TOKEN"]
    passwords = [*bus.values(), *store.values(), *owner.values(), token_of_services, token]
    passwords = [each for each in passwords if "/" not in each and each != "lathe"]
    assert len(set(passwords)) == len(passwords) > 30
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]{32}", each) for each in passwords), (
        "in URLs, they must stand as they are"
    )
    assert not (tmp_path / "secrets").stat().st_mode & 0o077
    assert not any(os.stat(path).st_mode & 0o077 for path in (tmp_path / "secrets").iterdir())
    again = subprocess.run(script, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "volumes" in again.stderr
    assert "secrets/" in (tmp_path / ".gitignore").read_text().splitlines()


def test_an_installation_of_an_earlier_release_keeps_its_passwords(tree: Path, tmp_path: Path) -> None:
    shutil.copy(tree / "overlays/complete/secrets.sh", tmp_path)
    old = {
        "postgres.env": "POSTGRES_PASSWORD=p1\n",
        "store.env": "LATHE_S3_ACCESS_KEY=lathe\nLATHE_S3_SECRET_KEY=p2\n",
        "nats.env": "NATS_PASSWORD=p3\n",
        "service.env": "LATHE_SERVICE_TOKEN=p4\n",
        **dict.fromkeys(("tokens.json", "signing.pem", "signing.pub"), "kept"),
    }
    (tmp_path / "secrets").mkdir()
    for name, text in old.items():
        (tmp_path / "secrets" / name).write_text(text)
    subprocess.run([str(tmp_path / "secrets.sh")], capture_output=True, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {name: made[name] for name in old if name not in ("store.env", "nats.env")} == {
        name: old[name] for name in old if name not in ("store.env", "nats.env")
    }
    assert settings(made["minio.env"])["MINIO_ROOT_PASSWORD"] == "p2"
    assert settings(made["nats.env"])["NATS_PASSWORD"] == "p3"
    assert settings(made["database-owner.env"])["LATHE_DATABASE_URL"] == "postgresql://lathe:p1@postgres:5432/lathe"
    assert (tmp_path / "secrets.old").is_dir()
