"""The images and the compose file agree with what is in the repository."""

from __future__ import annotations

import re
import tomllib

import pytest

from engines.spec.devices import load_catalog
from services.local.roster import SERVICES, WORKERS, ServiceEntry, WorkerEntry
from tests.manifests.deployed import COMPOSE, DOCKERFILE, HEADROOM, ROOT, bytes_of, compose

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
    assert {"LICENSE", "README.md", "constraints.txt", "engines", "protos", "pyproject.toml", "services"} == given
    assert all((ROOT / each).exists() for each in given)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_the_compose_file_has_the_service(service: ServiceEntry) -> None:
    entry = compose()["services"][service.name]
    assert entry["command"] == [service.module]
    assert entry["environment"]["LATHE_PORT"] == str(service.port)
    assert entry["environment"][service.address_variable] == f"{service.name}:{service.port}"
    assert entry["ports"] == [f"127.0.0.1:{service.port}:{service.port}"]


def test_the_compose_file_is_open_to_this_machine_alone() -> None:
    parsed = compose()
    for name, entry in parsed["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in entry.get("ports", [])), name
        assert "healthcheck" in entry or name in {worker.name for worker in WORKERS}
        assert set(entry.get("depends_on", {})) <= set(parsed["services"])
        named = {volume.partition(":")[0] for volume in entry.get("volumes", []) if not volume.startswith(".")}
        assert named <= set(parsed["volumes"])


@pytest.mark.parametrize("entry", WORKERS, ids=lambda worker: worker.name)
def test_a_worker_of_the_compose_file_agrees_with_its_device(entry: WorkerEntry) -> None:
    worker = compose()["services"][entry.name]
    assert worker["command"] == [entry.module]
    assert worker["environment"]["LATHE_KINDS"] == entry.kind
    device = load_catalog().devices[worker["environment"]["LATHE_DEVICE"]]
    limit = bytes_of(worker["mem_limit"].upper() + "i")
    assert limit == device.memory_limit_bytes + HEADROOM


@pytest.mark.parametrize("name", ["registry", *(worker.name for worker in WORKERS)])
def test_what_works_on_files_has_a_disk(name: str) -> None:
    entry = compose()["services"][name]
    mounted = {volume.partition(":")[2] for volume in entry["volumes"]}
    assert entry["environment"]["LATHE_DATA_DIR"] in mounted


def test_the_message_bus_keeps_what_it_acknowledged() -> None:
    configuration = (COMPOSE.parent / "nats.conf").read_text(encoding="utf-8")
    assert re.search(r"^\s*sync_interval: always$", configuration, re.MULTILINE)
    assert re.search(r"^max_payload: 4MB$", configuration, re.MULTILINE)
