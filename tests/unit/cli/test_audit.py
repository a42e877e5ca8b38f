"""`lathe audit` and `lathe projects limit`: what they ask for, and what they say."""

from __future__ import annotations

import re

import pytest
from lathe.registry.v1.audit_service_pb2 import AuditEntry, ListAuditEntriesResponse
from lathe.registry.v1.project_service_pb2 import Project, Quotas
from lathe.type.v1.error_reason_pb2 import (
    ERROR_REASON_NOT_FOUND,
    ERROR_REASON_QUOTA_EXCEEDED,
    ERROR_REASON_ROLE_REQUIRED,
)

from services.cli.audit import COLUMNS
from services.cli.exit_codes import ExitCode
from services.cli.output import print_rows
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite


def test_entries_say_who_did_what_and_how_it_ended(suite: Suite, lathe: Lathe) -> None:
    done = AuditEntry(user="ada", method="a.B/UpdateModel", resource="models/x", code="OK", omitted_fields=["source"])
    done.after.update({"description": "new"})
    missing = AuditEntry(user="bob", method="a.B/DeleteModel", code="NOT_FOUND", reason=ERROR_REASON_NOT_FOUND)
    full = AuditEntry(
        user="bob", by_service=True, method="a.B/X", code="RESOURCE_EXHAUSTED", reason=ERROR_REASON_QUOTA_EXCEEDED
    )
    suite.answers["ListAuditEntries"] = ListAuditEntriesResponse(
        audit_entries=[done, missing, full], unreachable=["evaluator"]
    )
    ended = lathe("audit", "--user", "ada", "--refused", "--filter", "project = projects/x")
    for text in ("UpdateModel", "models/x", "description, source", "NOT_FOUND", "RESOURCE_EXHAUSTED: QUOTA_EXCEEDED"):
        assert text in ended.out
    assert "NOT_FOUND: " not in ended.out
    assert "evaluator did not answer" in ended.err
    (asked,) = suite.asked["ListAuditEntries"]
    assert asked.filter == '((project = projects/x) AND code != OK) AND user:("ada")'


def test_a_limit_changes_what_is_named_and_nothing_else(suite: Suite, lathe: Lathe) -> None:
    stored = Project(name="projects/x", quotas=Quotas(waiting_tasks=3, open_uploads=2))
    suite.answers["GetProject"] = suite.answers["UpdateProject"] = stored
    limited = lathe("projects", "limit", "x", "--running-tasks", "8", "--open-uploads", "-1")
    assert "waiting tasks 3, open uploads 2" in limited.out
    (asked,) = suite.asked["UpdateProject"]
    assert asked.project.quotas == Quotas(waiting_tasks=3, running_tasks=8)
    assert list(asked.update_mask.paths) == ["quotas"]
    assert lathe("projects", "limit", "x").code == ExitCode.USAGE


def test_the_table_fits_a_terminal_of_140_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "conversionTasks/01989f6e-5a3f-7c11-8d1e-0f6a2b7c9d10"
    entries = [
        AuditEntry(user="ada", method="a.B/CreateEvaluationComparison", resource=task, code="OK"),
        AuditEntry(
            user="ada",
            method="a.B/UpdateModelVersion",
            resource="models/a-detector-of-faces-for-doors/versions/12",
            code="PERMISSION_DENIED",
            reason=ERROR_REASON_ROLE_REQUIRED,
            omitted_fields=["description", "labels"],
        ),
    ]
    for entry in entries:
        entry.create_time.seconds = 1_800_000_000
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("NO_COLOR", "1")
    print_rows(entries, COLUMNS)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 140
    shown = "\n".join(lines)
    for text in (
        "2027-01-15",
        "ada",
        "CreateEvaluationComparison",
        "conversionTasks/",
        "PERMISSION_DENIED:",
        "ROLE_REQUIRED",
    ):
        assert text in shown
