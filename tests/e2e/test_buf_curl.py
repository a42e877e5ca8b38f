"""The main job by `buf curl`: what any gRPC client in any language can do, with reflection or with the protos."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from tests.e2e.calls import PROTOS, Watching, buf_call, buf_command, buf_curl, buf_error
from tests.e2e.conftest import Suite
from tests.e2e.desk import Desk
from tests.e2e.tiny import network_source

REGISTRY, CONVERTER = "lathe.registry.v1", "lathe.converter.v1.ConversionService"
SERVICES = {
    "registry": {
        f"{REGISTRY}.ModelService",
        f"{REGISTRY}.ArchitectureService",
        f"{REGISTRY}.ArtifactService",
        f"{REGISTRY}.DatasetService",
        f"{REGISTRY}.ReleaseService",
        f"{REGISTRY}.AliasService",
        f"{REGISTRY}.DeviceService",
        f"{REGISTRY}.InfoService",
        f"{REGISTRY}.ProjectService",
        f"{REGISTRY}.AuditService",
        f"{REGISTRY}.StorageService",
        "lathe.watch.v1.WatchService",
    },
    "template": {"lathe.template.v1.TemplateService"},
    "converter": {CONVERTER},
    "quantizer": {"lathe.quantizer.v1.QuantizationService"},
    "optimizer": {"lathe.optimizer.v1.OptimizationService", "lathe.optimizer.v1.ProfileService"},
    "evaluator": {"lathe.evaluator.v1.EvaluationService"},
}


@pytest.mark.parametrize("service", SERVICES)
def test_reflection_lists_the_services(stack: Suite, service: str) -> None:
    listed = set(buf_curl(stack.address(service), "--list-services", "").stdout.split())
    assert listed >= SERVICES[service] | {"grpc.health.v1.Health"}
    assert not {name for name in listed if name.startswith("lathe.")} - SERVICES[service]


@pytest.mark.parametrize("service", SERVICES)
def test_health_is_asked_per_service(stack: Suite, service: str) -> None:
    # The health service is not part of the protos here: reflection tells what it is.
    for name in SERVICES[service]:
        assert buf_call(stack.address(service), "grpc.health.v1.Health/Check", {"service": name}) == [
            {"status": "SERVING"}
        ]


def test_the_main_job_without_any_program_of_ours(desk: Desk, tmp_path: Path) -> None:
    registry, template, converter = (desk.suite.address(name) for name in ("registry", "template", "converter"))
    source = network_source("CurlNet")
    created = {"architecture": {"display_name": "CurlNet", "class_name": "CurlNet", "source": source}}
    (architecture,) = buf_call(registry, f"{REGISTRY}.ArchitectureService/CreateArchitecture", created)
    (model,) = buf_call(registry, f"{REGISTRY}.ModelService/CreateModel", {"model": {"display_name": "By curl"}})
    file = put_file(registry, desk.weights[0])
    version = {"format": "MODEL_FORMAT_PTH", "files": [file], "architecture": architecture["name"]}
    (version,) = buf_call(
        registry, f"{REGISTRY}.ModelService/CreateModelVersion", {"parent": model["name"], "model_version": version}
    )
    assert version["name"] == "models/by-curl/versions/1"
    resolve = {"name": desk.template, "model_version": version["name"]}
    (resolved,) = buf_call(template, "lathe.template.v1.TemplateService/ResolveTemplate", resolve)
    assert {
        "path": "components.net.architecture",
        "valueJson": '"architectures/curlnet"',
        "source": "VALUE_SOURCE_MODEL_VERSION",
    } in resolved["provenance"]
    spec = {"model_version": version["name"], "template": desk.template}
    with desk.paused():  # so that what it does is seen
        (task,) = buf_call(converter, f"{CONVERTER}/CreateConversionTask", {"task": {"spec": spec}})
        assert task["status"]["state"] == "TASK_STATE_PENDING"
        # The schema from the protos this time, as a team does that has them.
        asked = ("--schema", str(PROTOS), "-d", json.dumps({"name": task["name"]}))
        watch = Watching(buf_command(converter, *asked, f"{CONVERTER}/WatchConversionTask"), tmp_path / "watch.json")
    *_, last = changes = watch.documents()
    assert last["status"]["state"] == "TASK_STATE_SUCCEEDED", last
    assert len(changes) > 2
    (graph,) = buf_call(registry, f"{REGISTRY}.ModelService/GetLineage", {"name": last["result"]["modelVersion"]})
    assert version["name"] in {node["name"] for node in graph["nodes"]}
    (download,) = buf_call(
        registry,
        f"{REGISTRY}.ArtifactService/GetDownload",
        {"name": f"artifacts/{last['result']['manifest']['sha256']}", "file_name": "manifest.json"},
    )
    manifest = httpx.get(download["url"], trust_env=False).content
    assert hashlib.sha256(manifest).hexdigest() == last["result"]["manifest"]["sha256"]
    assert json.loads(manifest)["device"] == "cpu-x86-64"


def put_file(registry: str, path: Path) -> dict[str, object]:
    content = path.read_bytes()
    service = f"{REGISTRY}.ArtifactService"
    (upload,) = buf_call(registry, f"{service}/CreateUpload", {"display_name": path.name, "size_bytes": len(content)})
    for part in upload["parts"]:
        begin = int(part.get("offset", 0))
        sent = httpx.put(part["url"], content=content[begin : begin + int(part["sizeBytes"])], trust_env=False)
        assert sent.is_success, sent.text
    digest = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    (artifact,) = buf_call(registry, f"{service}/FinalizeUpload", {"name": upload["name"], "digest": digest})
    assert artifact["digest"]["sha256"] == digest["sha256"]
    return {"path": path.name, "digest": digest}


def test_an_error_has_a_code_a_reason_and_a_sentence(desk: Desk) -> None:
    done = buf_curl(
        desk.suite.address("converter"),
        "--schema",
        str(PROTOS),
        "-d",
        json.dumps({"name": "conversionTasks/none"}),
        f"{CONVERTER}/GetConversionTask",
    )
    code, info = buf_error(done)
    assert done.returncode == 5 << 3
    assert (code, info.reason, info.domain) == ("not_found", "NOT_FOUND", "lathe")
    assert "conversionTasks/none" in done.stderr
