"""The proxy that speaks JSON over HTTP: its configuration, the API and the roster agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from services.local.roster import SERVICES
from tests.certificates import Authority
from tests.manifests.deployed import DESCRIPTORS, ENVOY, compose, envoy_program


@pytest.fixture(scope="module")
def config() -> Any:
    return yaml.safe_load(ENVOY.read_text(encoding="utf-8"))["static_resources"]


def manager(config: Any) -> Any:
    return config["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def test_every_service_of_the_api_is_served_and_routed(config: Any) -> None:
    files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    served = {f"{file.package}.{service.name}" for file in files for service in file.service}
    transcoder = manager(config)["http_filters"][1]["typed_config"]
    assert set(transcoder["services"]) == {name for name in served if name.startswith("lathe.")}
    (host,) = manager(config)["route_config"]["virtual_hosts"]
    prefixes = [route["match"]["prefix"] for route in host["routes"]]
    for name in transcoder["services"]:
        assert sum(f"/{name}/".startswith(prefix) for prefix in prefixes) == 1, name


def test_every_process_is_a_cluster(config: Any) -> None:
    found = {}
    for cluster in config["clusters"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        address = endpoint["endpoint"]["address"]["socket_address"]
        found[cluster["name"]] = (address["address"], address["port_value"])
    assert found == {service.name: (service.name, service.port) for service in SERVICES}


def test_the_proxy_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(ENVOY.read_text(encoding="utf-8").replace("/etc/lathe", str(DESCRIPTORS.parent)))
    command = [envoy_program(), "--mode", "validate", "-c", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert told.returncode == 0, told.stderr[-2000:]


def test_the_proxy_takes_what_is_said_of_tls(tmp_path: Path) -> None:
    text = ENVOY.read_text(encoding="utf-8")
    (comment,) = re.findall(r"    #   transport_socket:\n(?:    #     .*\n)+", text)
    ca = Authority(tmp_path).ca
    told = yaml.safe_load(
        re.sub(r"^    #   ", "", comment, flags=re.MULTILINE).replace("/etc/lathe/tls/ca.crt", str(ca))
    )
    whole = yaml.safe_load(text.replace("/etc/lathe", str(DESCRIPTORS.parent)))
    for cluster in whole["static_resources"]["clusters"]:
        cluster.update(told)
    file = tmp_path / "envoy.yaml"
    file.write_text(yaml.dump(whole))
    command = [envoy_program(), "--mode", "validate", "-c", str(file)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_the_compose_file_runs_the_version_that_is_tested() -> None:
    entry = compose()["services"]["http"]
    program = subprocess.run([envoy_program(), "--version"], capture_output=True, text=True, check=True).stdout
    version = entry["image"].rpartition(":v")[2]
    assert f"/{version}/" in program
    mounted = {volume.split(":")[1] for volume in entry["volumes"]}
    assert mounted == {"/etc/lathe/envoy.yaml", "/etc/lathe/descriptors.binpb"}
