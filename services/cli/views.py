"""Display of resources as rows of a table."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

from services.cli.output import Column, plain

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

FEW_WORDS = 80
"""Most characters of a failure in a table of tasks."""
STATE_COLORS = {
    **dict.fromkeys(("SUCCEEDED", "PASS", "CERTIFIED", "READY"), "green"),
    **dict.fromkeys(("PENDING", "CANCELLING", "WARN", "AWAITING_CONFIRMATION"), "yellow"),
    **dict.fromkeys(("RUNNING", "IMPORTING"), "blue"),
    **dict.fromkeys(("FAILED", "FAIL", "IMPORT_FAILED"), "red"),
    "CANCELLED": "dim",
    "UNVERIFIED": "bold magenta",
}


def when(timestamp: Timestamp) -> str:
    """Return a time in this machine's zone, to the second."""
    return timestamp.ToDatetime().astimezone().strftime("%Y-%m-%d %H:%M:%S") if timestamp.seconds else "–"


def size(count: int) -> str:
    """Return a number of bytes in a suitable unit."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def colored(word: str) -> str:
    """Return a state, verdict or certification in its colour."""
    return f"[{STATE_COLORS[word]}]{word}[/]" if word in STATE_COLORS else word


def labels(resource: Any) -> str:
    """Return the labels of a resource in one cell."""
    return plain(" ".join(f"{key}={value}" for key, value in sorted(resource.labels.items())))


def short(name: str) -> str:
    """Return a short name for the command line: `digits/3`."""
    return plain(name.removeprefix("models/").replace("/versions/", "/").removeprefix("architectures/"))


def channel_of(name: str) -> str:
    """Return a channel's short name for the command line: `digits/production`."""
    return plain(name.removeprefix("models/").replace("/channels/", "/"))


def rules(kept: Any) -> list[str]:
    """Return the rules of a channel in short form."""
    minimum = enum_name(kept, "minimum_verdict") or "PASS"
    said = [f"parity at least {minimum}"] if kept.require_parity or minimum != "PASS" else []
    said[:0] = ["no waivers"] if kept.require_parity else []
    said += ["imported evaluations count"] if kept.accept_imported else []
    said += ["verified on the device"] if kept.verified_on_device else []
    if kept.HasField("approval"):
        approvals = "1 approval" if kept.approval.count == 1 else f"{kept.approval.count} approvals"
        said.append(f"{approvals} of {', '.join(kept.approval.approvers) or 'others'}")
    if kept.require_evaluation or kept.dataset:
        said.append(f"evaluated on {kept.dataset.removeprefix('datasets/')}" if kept.dataset else "evaluated")
    for bound in kept.bounds:
        name = f"{bound.metric}@{bound.slice}" if bound.slice else bound.metric
        said += [f"{name} >= {bound.min:g}"] if bound.HasField("min") else []
        said += [f"{name} <= {bound.max:g}"] if bound.HasField("max") else []
    return said


def enum_name(message: Any, field: str) -> str:
    """Return the name of an enum field's value; empty if it is not set."""
    from services.platform.words import short_name

    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    number = getattr(message, field)
    return short_name(enum.values_by_number[number].name, enum) if number else ""


def extents(tensor: Any) -> str:
    """Return a tensor as `name float32 1..8 × 3 × any (height) × any (width)`."""
    from engines.tensors.shapes import format_extents

    if not tensor.HasField("shape"):
        return plain(f"{tensor.name} {tensor.dtype} of any shape")
    shape = format_extents(tensor.shape.min, tensor.shape.max, tensor.axis_names).replace("*", " × ")
    return plain(f"{tensor.name} {tensor.dtype} {shape}")


MODELS: list[Column[Any]] = [
    Column("model", lambda model: short(model.name), whole=True),
    Column("name", lambda model: plain(model.display_name)),
    Column("versions", lambda model: str(model.version_count), numeric=True),
    Column("latest", lambda model: short(model.latest_version), whole=True),
    Column("labels", labels, detail=True),
    Column("owner", lambda model: plain(model.owner), detail=True),
    Column("created", lambda model: when(model.create_time), whole=True),
]

VERSIONS: list[Column[Any]] = [
    Column("version", lambda version: short(version.name), whole=True),
    Column("format", lambda version: enum_name(version, "format"), whole=True),
    Column("size", lambda version: size(version.size_bytes), numeric=True),
    Column("for", lambda version: plain(" ".join(filter(None, (version.package.device, version.package.runtime))))),
    Column("made from", lambda version: ", ".join(short(name) for name in version.lineage.sources)),
    Column("labels", labels, detail=True),
    Column("owner", lambda version: plain(version.owner), detail=True),
    Column("created", lambda version: when(version.create_time), whole=True, detail=True),
]


def _read(graph: Any) -> bool:
    """Return whether a form's file could be read: those of some runtimes, such as plans, cannot."""
    return bool(graph.operators or graph.parameter_count)


GRAPHS: list[Column[Any]] = [
    Column("graph", lambda graph: plain(graph.component or graph.path)),
    Column("inputs", lambda graph: "\n".join(extents(tensor) for tensor in graph.signature.inputs)),
    Column("outputs", lambda graph: "\n".join(extents(tensor) for tensor in graph.signature.outputs)),
    Column("operators", lambda graph: "\n".join(f"{each.count} {each.operator}" for each in graph.operators[:10])),
    Column("parameters", lambda graph: f"{graph.parameter_count:,}" if _read(graph) else "–", numeric=True),
    Column("weights", lambda graph: size(graph.parameter_bytes) if _read(graph) else "–", numeric=True),
]

DIFFERENCES: list[Column[Any]] = [
    Column("what", lambda each: plain(each.path)),
    Column("before", lambda each: plain(each.before)),
    Column("after", lambda each: plain(each.after)),
]

LINEAGE: list[Column[Any]] = [
    Column("step", lambda node: f"{node.distance:+d}" if node.distance else "here", numeric=True),
    Column("kind", lambda node: enum_name(node, "kind").replace("_", " ").lower()),
    Column("what", lambda node: short(node.name)),
    Column("name", lambda node: plain(node.display_name) + (" (deleted)" if node.deleted else "")),
]

ARCHITECTURES: list[Column[Any]] = [
    Column("architecture", lambda each: short(each.name), whole=True),
    Column("name", lambda each: plain(each.display_name)),
    Column("class", lambda each: plain(each.class_name)),
    Column("function", lambda each: plain(each.function), detail=True),
    Column("certification", lambda each: colored(enum_name(each, "certification")), whole=True),
    Column("owner", lambda each: plain(each.owner), detail=True),
    Column("created", lambda each: when(each.create_time), whole=True, detail=True),
]

CHANNELS: list[Column[Any]] = [
    Column("channel", lambda channel: channel_of(channel.name), whole=True),
    Column("name", lambda channel: plain(channel.display_name), detail=True),
    Column("serves", lambda channel: short(channel.current_version) or "–", whole=True),
    Column("release", lambda channel: channel.current_release.rpartition("/")[2] or "–", numeric=True),
    Column("rules", lambda channel: plain("\n".join(rules(channel.rules)))),
    Column("repository", lambda channel: plain(channel.repository_uri), detail=True),
    Column("labels", labels, detail=True),
    Column("owner", lambda channel: plain(channel.owner), detail=True),
    Column("changed", lambda channel: when(channel.update_time), whole=True, detail=True),
]

COMPATIBILITY: list[Column[Any]] = [
    Column("can run", lambda found: "[green]yes[/]" if found.compatible else "[red]no[/]"),
    Column("because", lambda found: plain("\n".join(found.reasons))),
    Column("checked", lambda found: plain("\n".join(found.checks))),
]

TEMPLATES: list[Column[Any]] = [
    Column("template", lambda each: plain(each.name.removeprefix("templates/")), whole=True),
    Column("source", lambda each: enum_name(each, "source_format"), whole=True),
    Column("device", lambda each: plain(each.device), detail=True),
    Column("runtime", lambda each: plain(each.runtime)),
    Column("precision", lambda each: enum_name(each, "precision") or "FP32", detail=True),
    Column("method", lambda each: plain(each.method or "raw")),
    Column("threshold", lambda each: f"{each.error_threshold:g}" if each.error_threshold else "default", detail=True),
    Column("owner", lambda each: plain(each.owner), detail=True),
]

PROVENANCE: list[Column[Any]] = [
    Column("value of", lambda each: plain(each.path)),
    Column("is", lambda each: plain(each.value_json)),
    Column("from", lambda each: enum_name(each, "source").replace("_", " ").lower()),
]

TASKS: list[Column[Any]] = [
    Column("task", lambda task: plain(task.name.partition("/")[2]), whole=True),
    Column("kind", lambda task: plain(task.name.partition("Tasks/")[0]), whole=True),
    Column("name", lambda task: plain(task.display_name), detail=True),
    Column("state", lambda task: colored(enum_name(task.status, "state")), whole=True),
    Column("progress", lambda task: f"{task.status.progress:.0%}", numeric=True, detail=True),
    Column("doing", lambda task: plain(doing(task))),
    Column("device", lambda task: plain(task.device), detail=True),
    Column("result", lambda task: plain(made(task))),
    Column("owner", lambda task: plain(task.owner), detail=True),
    Column("created", lambda task: when(task.create_time), detail=True),
]


# An id takes much of a line, so `get` shows the rest.
TASK_LIST: list[Column[Any]] = [
    *(column for column in TASKS if column.header in {"task", "kind", "state"}),
    Column("name", lambda task: plain(task.display_name)),
    Column("details", lambda task: plain(made(task) or doing(task))),
]


def made(task: Any) -> str:
    """Return the result of a task in short: a version, or the main figure of a profile or an evaluation."""
    fields = task.result.DESCRIPTOR.fields_by_name
    if "measurements" in fields:
        from services.cli.profile_tables import fastest

        return fastest(task.result)
    if "optimization_result" in fields and task.result.candidates and not task.result.model_version:
        return f"{task.result.optimization_result.speedup:.2f}×, not saved"
    if "model_version" in fields:
        return short(task.result.model_version)
    main = next((each for each in task.result.metrics if each.name == task.result.main_metric and not each.slice), None)
    return f"{main.name} {main.value:.4f}" if main else ""


def doing(task: Any) -> str:
    """Return the state of a task in short, with its reason; `lathe tasks get` shows a failure in full."""
    status = task.status
    if status.HasField("failure"):
        return shorten(f"{enum_name(status.failure, 'reason')}: {status.failure.message}", FEW_WORDS, placeholder=" …")
    if task.origin.cache_hit:
        return f"shares the result of {task.origin.cache_hit}"
    stage = enum_name(status, "stage").replace("_", " ").lower()
    return str(status.pending_reason or status.message or stage or _place(status))


def _place(status: Any) -> str:
    """Return where a task waits in its queue; empty if it does not, or in a list."""
    if not status.HasField("queue"):
        return ""
    soon = status.queue.HasField("estimated_start_time")
    start = f", starts about {when(status.queue.estimated_start_time)}" if soon else ""
    return f"place {status.queue.position} in the queue{start}"
