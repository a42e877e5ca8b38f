"""Dashboards and alert rules: every metric and label that they name is told by the code."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import yaml
from lathe.internal.v1.event_pb2 import TaskAssignment
from lathe.type.v1.failure_pb2 import TASK_STAGE_EXECUTING
from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.metrics_core import Metric

import services.bus.connection
import services.platform.interceptors.observation
import services.registry.garbage.collector
import services.storage.metering
import services.tasks.api.metrics
from services.tasks.api.gauges import Figures, families
from services.tasks.state.standing import Load
from services.tasks.worker.metrics import RUNNING
from tests.manifests.deployed import DEPLOY, DESCRIPTORS, ROOT, documents, manifest_files

ALERTS = DEPLOY / "prometheus/alerts.yaml"
GRAFANA = DEPLOY / "grafana"
RULE_TESTS = ROOT / "tests/manifests/alerts_test.yaml"

# What Prometheus and the configuration of its job add to every series.
OF_TARGETS = {"job", "instance", "service", "component", "pod"}
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
_MODULES = (
    services.bus.connection,
    services.platform.interceptors.observation,
    services.registry.garbage.collector,
    services.storage.metering,
    services.tasks.api.metrics,
)


class Running:
    """An attempt, as the collector sees it."""

    assignment = TaskAssignment(kind="k", device="d", task_id="t", memory_limit_bytes=1)
    stage = TASK_STAGE_EXECUTING
    progress = 0.5
    memory_bytes = 1


@cache
def told() -> dict[str, set[str]]:
    """Return the labels of every series that a process may tell, by its name."""
    found: dict[str, set[str]] = {"up": set(), "ALERTS": set()}
    for module in _MODULES:
        for metric in vars(module).values():
            if type(metric).__module__ == "prometheus_client.metrics":
                (family,) = metric.describe()
                for ending in _PARTS[family.type]:
                    found[family.name + ending] = {*metric._labelnames, *({"le"} if ending == "_bucket" else ())}
    attempt = Running()
    RUNNING.begin(attempt)
    figures = Figures({"d": Load(1)}, {("d", "o"): Load(1)}, {"d": 1}, {"d": 1})
    try:
        shown: list[Metric] = [*RUNNING.collect(), *families([("k", figures)]), *PROCESS_COLLECTOR.collect()]
    finally:
        RUNNING.end(attempt)
    for family in shown:
        for sample in family.samples:
            found.setdefault(sample.name, set(sample.labels))
    found["lathe_queue_readable"] = {"kind"}
    return found


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", GRAFANA / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def dashboards() -> dict[str, Any]:
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GRAFANA.glob("*.json"))}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Yield every query with where it stands."""
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{name}: ${variable['name']}", variable["query"]["query"]


@pytest.mark.parametrize(("where", "query"), [pytest.param(*each, id=each[0]) for each in queries()])
def test_a_query_names_what_the_code_tells(where: str, query: str) -> None:
    known = told()
    named = set(re.findall(r"\b(?:lathe|process)_[a-z_]+\b|\bup\b", query))
    assert named, f"{where} asks for no metric"
    assert named <= known.keys(), f"{where} asks for {named - known.keys()}, which nothing tells"
    for metric, matchers in re.findall(r"\b((?:lathe|process)_[a-z_]+|up)\{([^}]*)\}", query):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)))
        assert labels <= known[metric] | OF_TARGETS, f"{where}: {metric} has no {labels - known[metric]}"
    labels = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")}
    assert labels <= set().union(*(known[metric] for metric in named)) | OF_TARGETS


def test_calls_that_stream_are_not_taken_for_slow_ones() -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    (slow,) = (rule["expr"] for rule in alerts() if rule["alert"] == "LatheCallsSlow")
    (pattern,) = re.findall(r'method!~"([^"]*)"', slow)
    assert f'method!~"{pattern}"' == module().STREAMS
    for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        for service in file.service:
            for method in service.method:
                name = f"{file.package}.{service.name}/{method.name}"
                assert bool(re.fullmatch(pattern, name)) == method.server_streaming, name


def test_an_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
    tested = RULE_TESTS.read_text(encoding="utf-8")
    missing = [name for name in names if f'alertname="{name}", alertstate="firing"' not in tested]
    assert not missing, "promtool's tests leave out alerts"


def test_dashboards_are_what_their_script_writes() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in GRAFANA.glob("*.json")}
    assert written == module().files(), "run `make dashboards`"


@pytest.mark.parametrize("name", sorted(dashboards()))
def test_panels_have_places_of_their_own(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboards()[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < module().WIDTH
        taken |= cells


def test_prometheus_finds_every_pod_by_what_its_configuration_asks_for() -> None:
    """The labels and the port that `relabel_configs` reads are there, with the values that alerts name."""
    (job,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    read = {source for rule in job["relabel_configs"] for source in rule["source_labels"]}
    assert {
        "__meta_kubernetes_pod_label_app_kubernetes_io_name",
        "__meta_kubernetes_pod_label_app_kubernetes_io_component",
        "__meta_kubernetes_pod_container_port_name",
    } <= read
    for template in templates():
        assert template["metadata"]["labels"]["app.kubernetes.io/name"]
        assert template["metadata"]["labels"]["app.kubernetes.io/component"] in {"api", "worker"}
        (container,) = template["spec"]["containers"]
        assert {"name": "metrics", "containerPort": 9464} in container["ports"]


def templates() -> Iterator[dict[str, Any]]:
    """Yield the template of every pod that is Lathe's own."""
    for path in manifest_files():
        for document in documents(path):
            spec = document.get("spec") or {}
            template = spec.get("template") or spec.get("jobTargetRef", {}).get("template")
            if template and document["kind"] in {"Deployment", "ScaledJob"}:
                yield template


def test_prometheus_takes_the_rules_and_they_fire() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, which comes with Prometheus, is not installed")
    for command in (("check", "rules", str(ALERTS)), ("test", "rules", str(RULE_TESTS))):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
