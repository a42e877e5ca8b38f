"""The images and the compose file agree with what is in the repository."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from engines.spec.devices import Device, load_catalog
from services.local.roster import SERVICES, ServiceEntry
from services.platform.settings import Settings
from tests.manifests.deployed import COMPOSE, DOCKERFILE, HEADROOM, ROOT, bytes_of, compose

WORKER_NAMES = {"worker-cpu": "cpu", "worker-nvidia": "nvidia"}
"""The workers of the compose file, and their images in the catalog."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_that_the_images_install_exists() -> None:
    roles = re.findall(r"'\.\[([^]]+)]'", DOCKERFILE.read_text(encoding="utf-8"))
    assert sorted(roles) == [
        "api",
        "detectron2",
        "evaluator",
        "mmdetection",
        "registry",
        "worker-arm,diffusers,tensorflow",
        "worker-cpu,diffusers,tensorflow",
        "worker-nvidia,diffusers,tensorflow",
    ]
    assert {extra for role in roles for extra in role.split(",")} <= set(PROJECT["optional-dependencies"])


def test_the_sizes_are_those_of_the_images() -> None:
    weighed = runpy.run_path(str(DOCKERFILE.parent / "sizes.py"))["IMAGES"]
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert {image for image, *_ in weighed} == set(
        re.findall(r"^FROM (?!.* AS build-)\S+ AS (?!role$)(\S+)$", text, re.MULTILINE)
    )
    roles = {extra for role in re.findall(r"'\.\[([^]]+)]'", text) for extra in role.split(",")}
    assert {extra for _, extras, _ in weighed for extra in extras.split(",")} == roles


def test_every_image_that_others_build_on_is_pinned_to_a_release() -> None:
    bases = re.findall(r"^ARG \w+_IMAGE=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.-]+", base) is not None for base in bases] == [True, True]
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for _, name in stages}
    assert {base for base, _ in stages if base not in named} == {"${PYTHON_IMAGE}", "${CANN_IMAGE}"}


@pytest.mark.parametrize("stage", re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE.read_text(), re.MULTILINE))
def test_no_image_runs_as_root(stage: str) -> None:
    body = re.split(rf"^FROM \S+ AS {stage}$", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    users = re.findall(r"^USER (\S+)$", body.split("\nFROM ")[0], re.MULTILINE)
    if not stage.startswith("build-"):
        assert users[-1:] in ([], ["65532:65532"])
    assert (
        users
        or stage.startswith("build-")
        or re.search(rf"^FROM (role|worker-cpu) AS {stage}$", DOCKERFILE.read_text(), re.MULTILINE)
    )


@pytest.mark.parametrize(("version", "passes"), [("2.13.0+cpu", True), ("2.13.0", False)])
def test_a_worker_for_processors_is_not_built_with_cuda(tmp_path: Path, version: str, passes: bool) -> None:
    """With a stand-in for pip: what it is asked for, and what is removed afterwards."""
    (tmp_path / "pip").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$1" = show ] && echo "Version: {version}"\n:\n'
    )
    (tmp_path / "pip").chmod(0o755)
    (tmp_path / "packages/torch/test").mkdir(parents=True)
    (tmp_path / "packages/torch/include").mkdir()
    command = [str(DOCKERFILE.parent / "install-worker.sh"), "cpu", ".[worker-cpu]"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PACKAGES": str(tmp_path / "packages")}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert (told.returncode == 0) == passes
    assert (asked[-1] == "install --constraint constraints.txt .[worker-cpu]") == passes
    assert passes or "PIP_EXTRA_INDEX_URL" in told.stderr
    assert [path.name for path in (tmp_path / "packages/torch").iterdir()] == ["include"] or not passes


def test_what_reads_the_source_formats_is_pinned_for_all_of_them_together() -> None:
    """A worker takes any task of its kind and device, so one environment reads every format."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].replace("_", "-") for line in lines}
    wanted = [
        each
        for role in ("worker-cpu", "worker-arm", "worker-nvidia", "diffusers", "tensorflow")
        for each in extra(role)
    ]
    assert {re.split(r"[=><\[]", each)[0] for each in wanted} - {"lathe"} <= pinned


def extra(name: str) -> list[str]:
    found: list[str] = PROJECT["optional-dependencies"][name]
    return found


def test_the_images_are_given_what_they_build_from() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    given = {line.removeprefix("!") for line in lines if line.startswith("!")}
    program = "deploy/docker/install-worker.sh"
    assert {
        "LICENSE",
        "README.md",
        "constraints.txt",
        "engines",
        "protos",
        "pyproject.toml",
        "services",
        program,
    } == given
    assert all((ROOT / each).exists() for each in given)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_the_compose_file_has_the_service(service: ServiceEntry) -> None:
    entry = compose()["services"][service.name]
    assert entry["command"] == [service.module]
    assert entry["environment"]["LATHE_PORT"] == str(service.port)
    assert entry["environment"][service.address_variable] == f"{service.name}:{service.port}"
    assert entry["ports"] == [f"127.0.0.1:{service.port}:{service.port}"]


ENDING = {"database", "minio-rights"}
"""What runs once at each start, and has to have ended well before others start."""


def test_what_ends_has_ended_before_others_start() -> None:
    for name, entry in compose()["services"].items():
        waits = entry.get("depends_on", {})
        assert all(
            (waits[other]["condition"] == "service_completed_successfully") == (other in ENDING) for other in waits
        )
        if name in {service.name for service in SERVICES}:
            assert "database" in waits
        assert (name in ENDING) == (entry.get("restart") == "on-failure")


def test_every_role_has_keys_of_its_own() -> None:
    """Nobody but the stores and what makes the roles is given the password of an owner."""
    owners = {"POSTGRES_PASSWORD", "NATS_PASSWORD", "S3_PASSWORD"}
    seen: dict[str, set[str]] = {}
    for name, entry in compose()["services"].items():
        for value in map(str, entry.get("environment", {}).values()):
            for variable in re.findall(r"\$\{([A-Z0-9_]*PASSWORD[A-Z0-9_]*)", value):
                seen.setdefault(variable, set()).add(name)
    stores = {"postgres", "nats", "minio"} | ENDING
    assert {variable for variable in owners if seen[variable] <= stores} == owners
    shared = {"S3_PASSWORD_TASKS": {"converter", "quantizer", "optimizer", "evaluator"}}
    for variable, users in seen.items():
        ours = users - stores
        assert ours <= shared.get(variable, ours), variable
        assert len(ours) <= 1 or variable in shared or "WORKER" in variable, variable


def test_the_compose_file_is_open_to_this_machine_alone() -> None:
    parsed = compose()
    for name, entry in parsed["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in entry.get("ports", [])), name
        assert "healthcheck" in entry or name in WORKER_NAMES or name in ENDING
        assert set(entry.get("depends_on", {})) <= set(parsed["services"])
        named = {volume.partition(":")[0] for volume in entry.get("volumes", []) if not volume.startswith(".")}
        assert named <= set(parsed["volumes"])


def test_the_compose_file_is_what_the_specification_takes() -> None:
    schema = json.loads((Path(__file__).parent / "schemas/compose-spec.json").read_text(encoding="utf-8"))
    found = [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(compose())]
    assert found == []


def test_with_tls_services_have_certificates_and_three_ports() -> None:
    """The second file is laid over the first: what has a key replaces, and volumes are added."""
    tls = yaml.safe_load((COMPOSE.parent / "tls.yaml").read_text(encoding="utf-8"))
    assert tls.keys() == {"services"}
    assert tls["services"].keys() == {service.name for service in SERVICES}
    schema = json.loads((Path(__file__).parent / "schemas/compose-spec.json").read_text(encoding="utf-8"))
    for service in SERVICES:
        first, second = compose()["services"][service.name], tls["services"][service.name]
        assert second.keys() == {"environment", "volumes"}
        environment = first["environment"] | second["environment"]
        (mounted,) = [volume.split(":") for volume in second["volumes"]]
        files = {environment[f"LATHE_TLS_{what}_FILE"] for what in ("CERT", "KEY", "CA")}
        assert files == {f"{mounted[1]}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")}
        ports = {environment[f"LATHE_{what}PORT"] for what in ("", "INTERNAL_", "PROBE_")}
        assert len(ports) == 3
        # Siblings meet at the internal port: the certificate that makes a service is for the host of this address.
        assert environment[service.address_variable] == f"{service.name}:{environment['LATHE_INTERNAL_PORT']}"
        assert "LATHE_PROBE_PORT" in first["healthcheck"]["test"][-1]
        named = {key.lower().removeprefix("lathe_"): value for key, value in environment.items() if "ADDRESS" in key}
        assert Settings.model_validate(named).sibling_hosts == {each.name for each in SERVICES}
    assert not list(Draft7Validator(schema).iter_errors(tls))


def test_an_example_of_the_settings_has_every_variable_of_the_compose_file() -> None:
    asked = re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE.read_text(encoding="utf-8"))
    example = (COMPOSE.parent / ".env.example").read_text(encoding="utf-8")
    assert set(asked) == set(re.findall(r"^([A-Z0-9_]+)=$", example, re.MULTILINE))


def devices_of(worker: str) -> list[Device]:
    """Return what a worker of the compose file may serve: what its image is for."""
    image = WORKER_NAMES[worker]
    return [device for device in load_catalog().devices.values() if device.pod.image == image]


@pytest.mark.parametrize("name", WORKER_NAMES)
def test_a_worker_of_the_compose_file_agrees_with_its_devices(name: str) -> None:
    worker = compose()["services"][name]
    assert worker["command"] == ["services.worker"]
    assert "LATHE_KINDS" not in worker["environment"]
    found = re.fullmatch(r"\$\{\w+:-(.+)}", worker["environment"]["LATHE_DEVICE"])
    assert found
    assert found[1] in {device.id for device in devices_of(name)}
    most = max(device.memory_limit_bytes for device in devices_of(name))
    assert bytes_of(worker["mem_limit"].upper() + "i") == most + HEADROOM
    grace = float(worker["stop_grace_period"].removesuffix("s"))
    assert grace > float(worker["environment"]["LATHE_DRAIN_SECONDS"])


def test_only_who_asks_for_a_gpu_needs_one() -> None:
    asking = {name for name, each in compose()["services"].items() if "deploy" in each}
    assert asking == {"worker-nvidia"}
    worker = compose()["services"]["worker-nvidia"]
    assert worker["profiles"] == ["gpu"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


@pytest.mark.parametrize("name", ["registry", *WORKER_NAMES])
def test_what_works_on_files_has_a_disk(name: str) -> None:
    entry = compose()["services"][name]
    mounted = {volume.partition(":")[2] for volume in entry["volumes"]}
    assert entry["environment"]["LATHE_DATA_DIR"] in mounted


def test_a_service_of_ours_writes_where_it_may() -> None:
    ours = {name: each for name, each in compose()["services"].items() if "build" in each}
    assert ours.keys() == {service.name for service in SERVICES} | set(WORKER_NAMES) | {"database"}
    for name, each in ours.items():
        assert each["read_only"], name
        assert each["cap_drop"] == ["ALL"]
        writable = {volume.partition(":")[2] for volume in each.get("volumes", [])} | set(each.get("tmpfs", []))
        assert "/tmp" in writable, name
        if name in WORKER_NAMES:
            assert not {"LATHE_DATABASE_URL", "LATHE_SERVICE_TOKEN"} & set(each["environment"])


def test_every_image_of_others_is_pinned() -> None:
    others = {name: each["image"] for name, each in compose()["services"].items() if "build" not in each}
    assert all(re.search(r":[^:]*\d+\.\d+|:RELEASE\.\d{4}", image) for image in others.values()), others


def test_the_message_bus_keeps_what_it_acknowledged() -> None:
    configuration = (COMPOSE.parent / "nats.conf").read_text(encoding="utf-8")
    assert re.search(r"^\s*sync_interval: always$", configuration, re.MULTILINE)
    assert re.search(r"^max_payload: 4MB$", configuration, re.MULTILINE)
