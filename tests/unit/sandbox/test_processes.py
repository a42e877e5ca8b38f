from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engines.sandbox import processes

TREE = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=0)
print(process.pid, flush=True)
process.wait()
"""


@pytest.fixture
def tree() -> Iterator[tuple[int, int]]:
    """A child and a grandchild of this process, by id."""
    with subprocess.Popen(
        [sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        yield process.pid, grandchild
        processes.kill(grandchild)
        process.kill()


def test_the_tree_is_found_from_its_root(tree: tuple[int, int]) -> None:
    child, grandchild = tree
    assert processes.descendants(child) == [grandchild]
    found = processes.descendants(os.getpid())
    assert found.index(child) < found.index(grandchild)


def test_usage_counts_the_whole_tree(tree: tuple[int, int]) -> None:
    used = processes.usage(tree[0], above=1 << 40)
    assert (used.processes, used.threads) == (2, 2)
    assert used.memory_bytes > processes.usage(tree[1], above=1 << 40).memory_bytes


def test_shared_pages_are_counted_once_if_the_limit_depends_on_it(tree: tuple[int, int]) -> None:
    assert 0 < processes.usage(tree[0], above=0).memory_bytes < processes.usage(tree[0], above=1 << 40).memory_bytes


def test_a_process_that_has_ended_uses_nothing_and_can_be_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert processes.usage(process.pid, above=0).memory_bytes == 0
    assert processes.descendants(process.pid) == []
    processes.kill(process.pid)
