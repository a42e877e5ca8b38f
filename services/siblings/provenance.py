"""What a task service states of how a package was made: the predicate of a SLSA provenance v1.

`buildType` is `lathe:` and the message of the task, whose `spec` is the external parameter. The internal ones are the
work that the service gave to a worker, without its files, and the environment of the worker. The files are the resolved
dependencies: each by its path in the work, with its digest. `lathe_verification` holds the parity report of each
component. Names of other tasks, owners and people's labels are left out: the package goes to others.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from lathe.registry.v1.model_service_pb2 import ModelVersion

MAX_BYTES = 1 << 20
"""What does not fit into a message with the rest of a registration is left out, and named in `lathe_incomplete`."""


def predicate_json(task: Any, work: Message, version: ModelVersion) -> str:
    """Return the statement, as JSON.

    Args:
        task: The task, which has `spec`, `attempts` and `origin` as every task has.
        work: What its service asked of the worker.
        version: What the task made, with its lineage and parity.
    """
    dependencies: list[dict[str, Any]] = []
    done = _without_files(_dict(work), "", dependencies)
    ran = next((attempt for attempt in reversed(task.attempts) if attempt.environment), None)
    environment = ran.environment if ran is not None else task.origin.environment
    definition: dict[str, Any] = {
        "buildType": f"lathe:{task.DESCRIPTOR.full_name}",
        "externalParameters": {"spec": _dict(task.spec)},
        "internalParameters": {
            "work": done,
            "environment": json.loads(environment) if environment else {},
            "sources": list(version.lineage.sources),
        },
        "resolvedDependencies": dependencies,
    }
    started = {"startedOn": ran.start_time.ToJsonString()} if ran is not None else {}
    predicate: dict[str, Any] = {
        "buildDefinition": definition,
        "runDetails": {"metadata": {"invocationId": task.name, **started}},
        "lathe_verification": {name: _dict(report) for name, report in sorted(version.parity.items())},
    }
    for field in ("internalParameters", "resolvedDependencies"):
        if len(json.dumps(predicate).encode()) > MAX_BYTES:
            del definition[field]
            predicate.setdefault("lathe_incomplete", []).append(field)
    return json.dumps(predicate)


def _dict(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def _without_files(value: Any, name: str, files: list[dict[str, Any]]) -> Any:
    """Return a value without the stored files in it, which are added to `files`."""
    if isinstance(value, list):
        entries = [_without_files(each, f"{name}[{index}]", files) for index, each in enumerate(value)]
        return [each for each in entries if each is not None] or None
    if not isinstance(value, dict):
        return value
    if value.keys() <= {"sha256", "size_bytes"} and "sha256" in value:
        size = int(value.get("size_bytes", 0))
        files.append({"name": name, "digest": {"sha256": value["sha256"]}, "annotations": {"size": size}})
        return None
    if value.keys() == {"path", "digest"} and isinstance(value["digest"], dict):
        return _without_files(value["digest"], value["path"], files)
    inside = f"{name}." if name else ""
    kept = {key: _without_files(each, f"{inside}{key}", files) for key, each in value.items()}
    return {key: each for key, each in kept.items() if each is not None}
