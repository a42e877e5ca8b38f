"""Writes the dashboards for Grafana, `*.json` beside this file: `make dashboards`.

A panel is a line here. What Grafana wants besides, and the place of each panel, follow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
STREAMS = 'method!~".*/(Watch|Stream|ServerReflection).*"'

Panel = dict[str, Any]


def panel(
    title: str,
    *queries: str | tuple[str, str],
    kind: str = "timeseries",
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    words: str = "",
    **more: Any,
) -> Panel:
    """Return a panel.

    Args:
        title: Its title.
        queries: PromQL, each alone or with the legend of its series.
        kind: Grafana's type of panel.
        unit: Grafana's name of the unit.
        width: In 24ths of the page.
        height: In Grafana's rows.
        words: What the panel shows, if its title does not say it.
        more: Further fields, such as `options`.
    """
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query if isinstance(query, str) else query[0],
            "legendFormat": "" if isinstance(query, str) else query[1],
            "instant": kind in {"stat", "table"},
            "range": kind not in {"stat", "table"},
            "format": "table" if kind == "table" else "time_series",
        }
        for index, query in enumerate(queries)
    ]
    defaults: dict[str, Any] = {"unit": unit, "min": 0}
    if kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    shown: Panel = {
        "title": title,
        "description": words,
        "type": kind,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "gridPos": {"w": width, "h": height},
    }
    return shown | more


def row(title: str) -> Panel:
    """Return a line that heads the panels after it."""
    return {"title": title, "type": "row", "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}


def text(content: str, height: int) -> Panel:
    """Return a panel of Markdown."""
    options = {"mode": "markdown", "content": content}
    return {"title": "", "type": "text", "options": options, "gridPos": {"w": WIDTH, "h": height}}


def variable(name: str, query: str, label: str, *, several: bool = False) -> dict[str, Any]:
    """Return a variable of which the user chooses a value, or several, among those that a query finds."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {"current": {}}),
    }


def dashboard(
    uid: str, title: str, panels: Sequence[Panel], variables: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return a dashboard with its panels in their places, from left to right and from top to bottom."""
    x = y = height = 0
    placed = []
    for number, each in enumerate(panels, start=1):
        size = each["gridPos"]
        if x + size["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        placed.append(each | {"id": number, "gridPos": {"x": x, "y": y, **size}})
        x, height = x + size["w"], max(height, size["h"])
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    return {
        "uid": uid,
        "title": title,
        "tags": ["lathe"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, *variables]},
        "links": [{"title": "Lathe", "type": "dashboards", "tags": ["lathe"], "asDropdown": True, "includeVars": True}],
        "panels": placed,
    }


def of_queue(metric: str, *by: str, where: str = "") -> str:
    """Return the sum of a figure of queues, of which every replica tells the same."""
    inner = f"max by (kind, device{', owner' if 'owner' in by else ''}) ({metric}{where})"
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def quantile(share: float, metric: str, *by: str, where: str = "", window: str = "$__rate_interval") -> str:
    """Return a quantile of a histogram."""
    groups = ", ".join([*by, "le"])
    return f"histogram_quantile({share}, sum by ({groups}) (rate({metric}_bucket{where}[{window}])))"


def rate(metric: str, *by: str, where: str = "") -> str:
    """Return how much a counter grows in a second."""
    return f"sum by ({', '.join(by)}) (rate({metric}{where}[$__rate_interval]))"


def grown(metric: str, where: str = "") -> str:
    """Return how much a counter grew in the time that is shown."""
    return f"sum(increase({metric}{where}[$__range]))"


def stat(title: str, query: str, unit: str = "short", words: str = "") -> Panel:
    """Return one number."""
    return panel(title, query, kind="stat", unit=unit, width=4, height=4, words=words)


SUITE = dashboard(
    "lathe-suite",
    "Lathe: suite",
    [
        stat("Tasks waiting", of_queue("lathe_tasks_waiting")),
        stat("Tasks running", of_queue("lathe_tasks_running")),
        stat("Oldest wait", "max(lathe_tasks_oldest_wait_seconds)", "s"),
        stat(
            "Worker slots",
            "sum(max by (device) (lathe_worker_slots))",
            words="A worker that serves several kinds of tasks is counted once.",
        ),
        stat(
            "Answered from the cache",
            grown("lathe_tasks_created_total", '{how=~"cached|shared"}') + " / " + grown("lathe_tasks_created_total"),
            "percentunit",
            "Tasks that needed no work of their own, of those that were created in the time that is shown.",
        ),
        stat("Tasks failed", grown("lathe_task_failures_total")),
        row("Tasks"),
        panel("Waiting", (of_queue("lathe_tasks_waiting", "kind"), "{{kind}}")),
        panel("Running", (of_queue("lathe_tasks_running", "kind"), "{{kind}}")),
        panel(
            "Created",
            (rate("lathe_tasks_created_total", "how"), "{{how}}"),
            unit="ops",
            words="A second, by how they were.",
        ),
        panel(
            "Ended", (rate("lathe_tasks_ended_total", "state"), "{{state}}"), unit="ops", words="A second, by state."
        ),
        panel(
            "Failures",
            (rate("lathe_task_failures_total", "reason"), "{{reason}}"),
            unit="ops",
            words="A second, by reason.",
        ),
        panel(
            "Wait for a worker",
            (quantile(0.5, "lathe_task_wait_seconds"), "half of them"),
            (quantile(0.99, "lathe_task_wait_seconds"), "99 %"),
            unit="s",
        ),
        panel(
            "Time in each stage, half of the attempts",
            (quantile(0.5, "lathe_task_stage_seconds", "stage"), "{{stage}}"),
            unit="s",
        ),
        panel("Waiting, by owner", (of_queue("lathe_owner_tasks_waiting", "owner"), "{{owner}}")),
        panel("Running, by owner", (of_queue("lathe_owner_tasks_running", "owner"), "{{owner}}")),
        row("Calls"),
        panel("Calls", (rate("lathe_grpc_server_calls_total", "service"), "{{service}}"), unit="reqps"),
        panel(
            "Failures of ours",
            (
                rate(
                    "lathe_grpc_server_calls_total",
                    "service",
                    "code",
                    where='{code=~"INTERNAL|UNKNOWN|DATA_LOSS|UNAVAILABLE"}',
                ),
                "{{service}} {{code}}",
            ),
            unit="reqps",
        ),
        panel(
            "Slowest methods, 99 % of the calls",
            (
                "topk(8, " + quantile(0.99, "lathe_grpc_server_seconds", "method", where=f"{{{STREAMS}}}") + ")",
                "{{method}}",
            ),
            unit="s",
        ),
        row("Servers"),
        panel(
            "NATS stores a message, 99 %", (quantile(0.99, "lathe_bus_seconds", "operation"), "{{operation}}"), unit="s"
        ),
        panel("Object store, 99 %", (quantile(0.99, "lathe_storage_seconds", "operation"), "{{operation}}"), unit="s"),
        panel(
            "Bytes of the object store", (rate("lathe_storage_bytes_total", "operation"), "{{operation}}"), unit="Bps"
        ),
        panel(
            "Removed: nothing refers to it",
            ("sum(rate(lathe_gc_removed_bytes_total[$__rate_interval]))", "bytes a second"),
            unit="Bps",
        ),
        panel(
            "Not connected to NATS",
            ("sum by (service) (1 - lathe_bus_connected)", "{{service}}"),
            ("sum(rate(lathe_bus_disconnects_total[$__rate_interval]))", "lost connections a second"),
        ),
        panel(
            "Memory of the processes",
            ('sum by (service) (process_resident_memory_bytes{job="lathe"})', "{{service}}"),
            unit="bytes",
        ),
        panel(
            "Processors",
            ('sum by (service) (rate(process_cpu_seconds_total{job="lathe"}[$__rate_interval]))', "{{service}}"),
        ),
    ],
)

_CHOSEN = '{device=~"$device", kind=~"$kind"}'
DEVICES = dashboard(
    "lathe-devices",
    "Lathe: devices",
    [
        panel("Waiting", (of_queue("lathe_tasks_waiting", "device", where=_CHOSEN), "{{device}}")),
        panel("Running", (of_queue("lathe_tasks_running", "device", where=_CHOSEN), "{{device}}")),
        panel(
            "Oldest wait",
            (f"max by (device, kind) (lathe_tasks_oldest_wait_seconds{_CHOSEN})", "{{device}} {{kind}}"),
            unit="s",
        ),
        panel(
            "Workers",
            (f"max by (device) (lathe_workers{_CHOSEN})", "{{device}}"),
            words="Live workers of the kind that has most.",
        ),
        panel(
            "Busy",
            (
                f"{of_queue('lathe_tasks_running', 'device', where=_CHOSEN)}"
                f" / (max by (device) (lathe_worker_slots{_CHOSEN}) > 0)",
                "{{device}}",
            ),
            unit="percentunit",
            words="Running tasks, of those that the live workers could run.",
        ),
        panel(
            "Wait for a worker, 90 %",
            (quantile(0.9, "lathe_task_wait_seconds", "device", where=_CHOSEN), "{{device}}"),
            unit="s",
        ),
        panel(
            "Work, half of the attempts",
            (
                quantile(
                    0.5,
                    "lathe_task_stage_seconds",
                    "device",
                    "kind",
                    where=_CHOSEN.replace("}", ', stage="executing"}'),
                ),
                "{{device}} {{kind}}",
            ),
            unit="s",
        ),
        panel(
            "Attempts that ended",
            (rate("lathe_attempts_ended_total", "device", "outcome", where=_CHOSEN), "{{device}} {{outcome}}"),
            unit="ops",
        ),
        panel(
            "Failures",
            (rate("lathe_task_failures_total", "device", "reason", where=_CHOSEN), "{{device}} {{reason}}"),
            unit="ops",
        ),
        panel(
            "Peak memory, 90 % of the attempts",
            (quantile(0.9, "lathe_attempt_peak_memory_bytes", "device", "kind", where=_CHOSEN), "{{device}} {{kind}}"),
            unit="bytes",
        ),
        panel(
            "Memory now, of the limit",
            (
                f"max by (device, kind) (lathe_task_memory_bytes{_CHOSEN} / lathe_task_memory_limit_bytes{_CHOSEN})",
                "{{device}} {{kind}}",
            ),
            unit="percentunit",
            words="Of the running task that has most.",
        ),
        panel(
            "Waiting, by owner",
            (of_queue("lathe_owner_tasks_waiting", "device", "owner", where=_CHOSEN), "{{device}} {{owner}}"),
        ),
    ],
    [
        variable("device", "label_values(lathe_workers, device)", "Device", several=True),
        variable("kind", "label_values(lathe_workers, kind)", "Kind", several=True),
    ],
)

_TASK = '{task="$task"}'
_LIKE = '{kind="$kind", device="$device"}'
TASK = dashboard(
    "lathe-task",
    "Lathe: one task",
    [
        text(
            "A task has series while it runs, if it runs longer than from one scrape to the next. Its log: "
            "`lathe tasks logs $task`. Its trace: the spans whose attribute `lathe.task_id` is `$task`, from the call "
            "that created it to the steps of the engine. Its attempts, with the time in each stage and the peak "
            "of memory: `lathe tasks get $task`.",
            3,
        ),
        panel("Progress", (f"max(lathe_task_progress{_TASK})", "progress"), unit="percentunit", width=12),
        panel("Stage", (f"max by (stage) (lathe_task_stage{_TASK})", "{{stage}}"), kind="state-timeline", width=12),
        panel(
            "Memory of its processes",
            (f"max(lathe_task_memory_bytes{_TASK})", "resident"),
            (f"max(lathe_task_memory_limit_bytes{_TASK})", "limit"),
            unit="bytes",
            width=12,
        ),
        panel(
            "Memory of tasks like it",
            (quantile(0.5, "lathe_attempt_peak_memory_bytes", where=_LIKE, window="$__range"), "half of the peaks"),
            (quantile(0.9, "lathe_attempt_peak_memory_bytes", where=_LIKE, window="$__range"), "90 % of the peaks"),
            unit="bytes",
            width=12,
        ),
        panel(
            "Stages of tasks like it, half of the attempts",
            (quantile(0.5, "lathe_task_stage_seconds", "stage", where=_LIKE, window="$__range"), "{{stage}}"),
            unit="s",
            width=12,
        ),
        panel(
            "How attempts like it end",
            (f"sum by (outcome) (increase(lathe_attempts_ended_total{_LIKE}[$__range]))", "{{outcome}}"),
            width=12,
        ),
    ],
    [
        variable("task", "label_values(lathe_task_stage, task)", "Task"),
        variable("kind", 'label_values(lathe_task_stage{task="$task"}, kind)', "Kind"),
        variable("device", 'label_values(lathe_task_stage{task="$task"}, device)', "Device"),
    ],
)


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    dashboards = {"suite.json": SUITE, "devices.json": DEVICES, "task.json": TASK}
    return {name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in dashboards.items()}


if __name__ == "__main__":
    for name, content in files().items():
        (HERE / name).write_text(content, encoding="utf-8")
