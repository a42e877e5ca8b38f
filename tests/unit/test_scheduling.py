"""How `make test` shares the tests among its processes."""

from __future__ import annotations

import pytest

from tests import scheduling


@pytest.mark.parametrize(
    ("node", "scope"),
    [
        ("tests/e2e/test_up.py::test_a[x]", "e2e"),
        ("tests/e2e/test_cli.py::test_b", "e2e"),
        ("tests/e2e/apart/test_tour.py::test_c[a::b]", "tests/e2e/apart/test_tour.py::test_c[a::b]"),
        ("tests/unit/e2e/test_d.py::test_d", "tests/unit/e2e/test_d.py"),
    ],
)
def test_one_process_gets_the_tests_of_the_shared_suite(node: str, scope: str) -> None:
    assert scheduling.scope(node) == scope


def test_what_takes_long_goes_first() -> None:
    folders = ["e2e", "e2e/apart", "integration/local", "contract/registry", "unit/graph", "manifests"]
    nodes = [f"tests/{folder}/test_a.py::test_a" for folder in folders]
    assert sorted(set(nodes), key=scheduling.rank) == nodes
