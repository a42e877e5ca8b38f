"""Processes are killed while tasks run: nothing is lost, nothing takes effect twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.chaos.run import wreak


@pytest.mark.parametrize(("tasks", "kills"), [(100, 10)])
def test_no_task_is_lost_or_done_to_effect_twice(tmp_path: Path, tasks: int, kills: int) -> None:
    after = wreak(tmp_path / "state", tasks, kills)
    assert after.kills.total() == kills
    assert len(set(after.accepted)) == tasks
    assert set(after.states) == set(after.accepted)
    assert set(after.states.values()) == {"SUCCEEDED"}
    assert after.effects == {name.rpartition("/")[2]: 1 for name in after.accepted}
