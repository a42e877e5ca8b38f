"""How each runtime's room says that its forms are served."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import engines.runtimes
from engines.failures import EngineFailure, FailureReason
from engines.runtimes import ROOMS, runtimes
from engines.runtimes.serving import Serving, serving, triton_backend


@pytest.mark.parametrize("name", ROOMS)
def test_every_runtime_can_be_served_from_a_package(name: str) -> None:
    stated = serving(name)
    folder = Path(engines.runtimes.__file__).parent
    assert all((folder / file).is_file() for file in stated.carried)
    assert f"{name.replace('-', '_')}/opener.py" in stated.carried
    assert stated.packages == runtimes()[name].packages
    assert runtimes()[name].name == name


@pytest.mark.parametrize("name", ["homemade", "", "../package", "torch_networks", "onnxruntime.opener"])
def test_a_name_that_is_not_in_the_table_is_never_imported(name: str) -> None:
    assert serving(name) == Serving()
    with pytest.raises(EngineFailure, match="it has onnxruntime, openvino") as caught:
        triton_backend(name, "net")
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE


def test_openers_import_nothing_of_lathe_but_each_other() -> None:
    folder = Path(engines.runtimes.__file__).parent
    for file in {"opened.py", *(name for room in ROOMS for name in serving(room).carried)}:
        text = (folder / file).read_text()
        assert "engines." not in "".join(line for line in text.splitlines() if line.startswith(("from", "import")))


@pytest.mark.parametrize("name", ROOMS)
def test_a_package_carries_whatever_its_openers_import(name: str) -> None:
    folder, carried = Path(engines.runtimes.__file__).parent, {"opened.py", *serving(name).carried}
    for file in carried:
        for node in ast.walk(ast.parse((folder / file).read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                place = (folder / file).parents[node.level - 1].joinpath(*(node.module or "").split("."))
                assert place.with_suffix(".py").relative_to(folder).as_posix() in carried
