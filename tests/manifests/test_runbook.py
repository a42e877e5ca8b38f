"""The runbook has an entry for each alert, and none for others."""

from __future__ import annotations

import re

import yaml

from tests.manifests.deployed import DEPLOY


def test_every_alert_has_its_entry() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    runbook = (DEPLOY / "README.md").read_text(encoding="utf-8")
    entries = re.findall(r"^#### (\w+)\n\n\S", runbook, re.MULTILINE)
    assert len(alerts) > 10
    assert sorted(entries) == sorted(alerts)
