"""JSON over HTTP and gRPC-Web by the proxy of `deploy/http` with its own configuration, in front of the suite."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from lathe.template.v1.template_service_pb2 import ListTemplatesRequest, ListTemplatesResponse

from services.local.ports import free_port
from tests.e2e.conftest import Suite
from tests.e2e.desk import Desk
from tests.manifests.deployed import DESCRIPTORS, ENVOY, envoy_program

TEMPLATES = "lathe.template.v1.TemplateService"


class Web:
    """A client that knows HTTP alone."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = urllib3.PoolManager(retries=urllib3.Retry(connect=40, backoff_factor=0.05, read=False))

    def post(self, method: str, body: Any, **headers: str) -> urllib3.BaseHTTPResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"content-type": "application/json", "x-lathe-user": "web"}
        return self._http.request("POST", f"{self._url}/{method}", body=data, headers={**kind, **headers}, timeout=240)


@pytest.fixture(scope="module")
def web(stack: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder: Path = tmp_path_factory.mktemp("http")
    config = yaml.safe_load(ENVOY.read_text(encoding="utf-8").replace("/etc/lathe", str(DESCRIPTORS.parent)))
    port = free_port()
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    for cluster in config["static_resources"]["clusters"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        host, _, number = stack.address(cluster["name"]).partition(":")
        endpoint["endpoint"]["address"]["socket_address"] = {"address": host, "port_value": int(number)}
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    command = [envoy_program(), "-c", str(folder / "envoy.yaml"), "--concurrency", "1", "--use-dynamic-base-id"]
    with (folder / "envoy.log").open("w") as log:
        process = subprocess.Popen([*command, "-l", "warning"], stdout=log, stderr=log)
    yield Web(f"http://127.0.0.1:{port}")
    process.terminate()
    process.wait(30)


def test_a_method_is_a_post_to_its_name(web: Web) -> None:
    answer = web.post(f"{TEMPLATES}/ListTemplates", {"page_size": 2})
    assert answer.status == 200
    found = answer.json()
    assert len(found["templates"]) == 2
    assert found["templates"][0]["source_format"].startswith("MODEL_FORMAT_"), "fields have the names of the protos"
    assert found["next_page_token"]


def test_an_error_is_its_status_with_reason_and_field(web: Web) -> None:
    missing = web.post(f"{TEMPLATES}/GetTemplate", {"name": "templates/none"})
    assert missing.status == 404
    assert "templates/none" in missing.json()["message"]
    wrong = web.post(f"{TEMPLATES}/GetTemplate", {"name": "nonsense"})
    assert wrong.status == 400
    details = {each["@type"].rpartition(".")[2]: each for each in wrong.json()["details"]}
    assert details["ErrorInfo"]["domain"] == "lathe"
    assert details["BadRequest"][
        "fieldViolations" if "fieldViolations" in details["BadRequest"] else "field_violations"
    ]
    assert web.post(f"{TEMPLATES}/NoSuchMethod", {}).status == 404
    assert web.post(f"{TEMPLATES}/GetTemplate", b"no json").status == 400


def test_a_stream_is_one_message_a_line(web: Web, desk: Desk) -> None:
    spec = {"model_version": desk.keyed, "template": "templates/tiny"}
    made = web.post("lathe.converter.v1.ConversionService/CreateConversionTask", {"task": {"spec": spec}}).json()
    assert made["owner"] == "web"
    answer = web.post("lathe.converter.v1.ConversionService/WatchConversionTask", {"name": made["name"]})
    states = [json.loads(line)["status"]["state"] for line in answer.data.splitlines() if line.strip()]
    assert states[-1] == "TASK_STATE_SUCCEEDED"


def test_grpc_web_is_answered(web: Web) -> None:
    message = ListTemplatesRequest(page_size=1).SerializeToString()
    frame = struct.pack(">BI", 0, len(message)) + message
    answer = web.post(f"{TEMPLATES}/ListTemplates", frame, **{"content-type": "application/grpc-web+proto"})
    flags, size = struct.unpack(">BI", answer.data[:5])
    assert (answer.status, flags) == (200, 0)
    assert len(ListTemplatesResponse.FromString(answer.data[5 : 5 + size]).templates) == 1
    assert b"grpc-status:0" in answer.data[5 + size :]
