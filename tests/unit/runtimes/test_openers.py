"""Openers as packages carry them: they compute what sessions compute, and need nothing of Lathe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.package.writer import write_scripts
from engines.runtimes import BuildSource, open_form, opened
from tests.unit.runtimes import carried, graphs, networks
from tests.unit.runtimes.building import build

FORMS = [
    ("onnxruntime", {"binding": "bound"}),
    ("onnxruntime", {"streams": "2", "threads": "2"}),
    ("openvino", {}),
    ("openvino", {"streams": "2"}),
    ("torchscript", {"graph": "inference", "allocator": "tuned"}),
    ("torchscript", {"mode": "eager"}),
]


@pytest.mark.parametrize(("runtime", "knobs"), FORMS, ids=str)
def test_a_package_carries_what_opens_its_form(runtime: str, knobs: dict[str, str], tmp_path: Path) -> None:
    source, feed = networks.source(networks.convolution()), networks.feed(2)
    if runtime in {"onnxruntime", "openvino"}:
        source, feed = (
            BuildSource.of_file(graphs.linear(tmp_path / "g.onnx")[0], graphs.SIGNATURE),
            {"x": np.ones((3, 4), "f4")},
        )
    form = build(runtime, source, tmp_path / "out", "FP32", knobs)
    with open_form(form, 2) as session:
        expected = next(iter(session.run(feed).values()))
    for found in carried.computed(form, feed, tmp_path):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_package_carries_the_openers_of_its_runtimes_alone(tmp_path: Path) -> None:
    write_scripts(tmp_path, ["openvino", "inductor", "openvino"])
    files = {path.relative_to(tmp_path / "runtimes").as_posix() for path in (tmp_path / "runtimes").rglob("*.py")}
    torch = {"inductor/opener.py", "torch_networks/opener.py", "torch_networks/cuda_opener.py"}
    assert files == {"opened.py", "openvino/opener.py", *torch}


@pytest.mark.parametrize(
    ("text", "saturating"),
    [("flags : fpu avx2", True), ("flags : avx2 avx512_vnni", False), ("Features : fp asimddp", False)],
)
def test_products_saturate_on_processors_without_instructions_for_them(
    text: str, saturating: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_named: text)
    assert opened.products_saturate.__wrapped__() is saturating


def test_a_form_takes_no_more_threads_than_it_states() -> None:
    assert opened.set_up_process({"threads": "1"}, 4) == 1
    assert opened.set_up_process({"threads": "8"}, 4) == 4
    assert opened.set_up_process({}, 4) == 4
