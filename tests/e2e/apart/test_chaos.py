"""Services restart, and processes are killed and stopped, while tasks run: nothing is lost or has an effect twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Plan, run


@pytest.mark.timeout(1800)  # it has patience for a busy machine itself
def test_nothing_is_lost_or_done_to_effect_twice(tmp_path: Path) -> None:
    """A short form of `python -m tests.chaos`."""
    plan = Plan(tasks=60, imports=6, faults=10, restarts=1, replicas=("converter",), servers=1)
    report = run(tmp_path / "state", plan)
    assert report.wrong == []
    assert report.harm.total() == plan.faults
    for codes in report.restarts.values():
        told = [*codes.unary.values(), *codes.streams.values()]
        assert {code for each in told for code in each} <= {"OK", "UNAVAILABLE"}
        assert all(each["OK"] for each in told)
    kinds = ("conversion", "quantization", "optimization", "evaluation")
    assert {kind: report.after.states[kind]["SUCCEEDED"] for kind in kinds} == dict.fromkeys(kinds, 15)
    assert report.after.imports == {"READY": plan.imports}
    assert report.after.releases
    assert report.after.blobs
