"""Processes are killed while tasks run: nothing is lost, nothing takes effect twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.beasts import COUNT
from tests.e2e.chaos.run import wreak


@pytest.mark.parametrize(("tasks", "imports", "kills"), [(100, 10, 10)])
def test_nothing_is_lost_or_done_to_effect_twice(tmp_path: Path, tasks: int, imports: int, kills: int) -> None:
    after = wreak(tmp_path / "state", tasks, kills, imports=imports)
    assert after.kills.total() == kills
    assert len(set(after.accepted)) == tasks
    assert set(after.states) == set(after.accepted)
    assert set(after.states.values()) == {"SUCCEEDED"}
    assert after.effects == {name.rpartition("/")[2]: 1 for name in after.accepted}
    assert len(set(after.imports)) == imports
    assert after.complaints == []
    assert after.datasets == dict.fromkeys(after.imports, ("READY", COUNT))
    assert list((tmp_path / "state" / "registry" / "imports").iterdir()) == []
