"""How `make test` shares the tests among its processes, each of which is a session with servers of its own.

The end-to-end tests that share one running suite stay in one process, which begins with them: they take the longest,
wait much, and a second suite would cost more than it saves. Those of `e2e/apart` start suites of their own and go one
by one to whoever is free. Every other file goes as a whole. What takes long goes first, so that no process has much
left when the others are done.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadFileScheduling

ORDER = ("e2e", "e2e/apart", "integration", "contract", "unit")


def folder_of(node: str) -> str:
    """Return the folder of `ORDER` that a test lies in, by its node ID; empty if it lies in no one of them."""
    parts = PurePosixPath(node.partition("::")[0]).parts[1:-1]
    if parts[:2] == ("e2e", "apart"):
        return "e2e/apart"
    return parts[0] if parts and parts[0] in ORDER else ""


def rank(node: str) -> int:
    """Return when a test begins, by its node ID: those of lower ranks go first."""
    folder = folder_of(node)
    return ORDER.index(folder) if folder else len(ORDER)


def scope(node: str) -> str:
    """Return what stays in one process with a test, by its node ID."""
    folder = folder_of(node)
    if folder == "e2e":
        return folder
    return node if folder == "e2e/apart" else node.partition("::")[0]


class Scheduler(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Gives files to processes, but the tests of the shared suite to one, and those of `e2e/apart` one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
