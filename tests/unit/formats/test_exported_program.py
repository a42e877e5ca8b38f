"""Programs of torch.export keep their own inputs and dynamic axes, and nothing in them runs but the network."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats import FORMATS
from engines.formats.exported_program.expressions import is_arithmetic
from engines.formats.exported_program.reader import OPEN_BATCH, load_program
from tests.unit.formats.reading import assert_equal, read, request_of


def _network() -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, options: dict[str, torch.Tensor], twice: bool = False) -> Any:
            y = self.linear(x) * options["scale"]
            return {"y": y * 2 if twice else y, "mean": x.mean(1)}

    torch.manual_seed(0)
    return Net().eval()


def _write(path: Path, *, largest: int = 0, static: bool = False) -> None:
    import torch

    batch = torch.export.Dim("batch", max=largest) if largest else torch.export.Dim("batch")
    shapes = None if static else ({0: batch}, {"scale": {0: batch}}, None)
    example = (torch.ones(3, 4), {"scale": torch.ones(3, 1)}, True)
    torch.export.save(torch.export.export(_network(), example, dynamic_shapes=shapes), path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_inputs_and_their_bounds_come_from_the_program(tmp_path: Path, source: Path) -> None:
    _write(source / "model.pt2", largest=5)
    prepared = read("EXPORTED_PROGRAM", tmp_path)
    assert [(spec.name, spec.min, spec.max) for spec in prepared.signature.inputs] == [
        ("x", (1, 4), (5, 4)),
        ("options_scale", (1, 1), (5, 1)),
    ]
    assert prepared.component.max_batch == 5
    assert prepared.samples.batch_sizes == (1, 2, 5)
    assert_equal(prepared)


def test_an_axis_without_a_bound_has_a_usual_one(tmp_path: Path, source: Path) -> None:
    _write(source / "model.pt2")
    request = request_of("EXPORTED_PROGRAM", tmp_path)
    component, (warning,) = FORMATS["EXPORTED_PROGRAM"].inputs(request, request.template.components[0], tmp_path)
    assert component.max_batch == OPEN_BATCH
    assert f"at most axis 0 of 'x' {OPEN_BATCH}" in warning


def test_a_program_of_one_shape_stays_so(tmp_path: Path, source: Path) -> None:
    _write(source / "model.pt2", static=True)
    request = request_of("EXPORTED_PROGRAM", tmp_path)
    component, warnings = FORMATS["EXPORTED_PROGRAM"].inputs(request, request.template.components[0], tmp_path)
    assert warnings == ()
    assert [(given.shape, given.max_shape) for given in component.inputs] == [((3, 4), ()), ((3, 1), ())]
    assert component.max_batch == 1


def test_extents_that_are_computed_are_read(tmp_path: Path, source: Path) -> None:
    import torch

    class Grown(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            grown = torch.nn.functional.interpolate(x, scale_factor=1.5)
            products = x.flatten()[:, None] * x.flatten()[None, :]
            return grown, products.reshape(-1), torch.cond(x.shape[2] > 4, torch.relu, torch.neg, (x,))

    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(Grown(), (torch.ones(1, 1, 6, 8),), dynamic_shapes=({2: dynamic, 3: dynamic},))
    torch.export.save(program, source / "model.pt2")
    assert load_program(source / "model.pt2").graph_signature == program.graph_signature


@pytest.mark.parametrize(
    "expression",
    [
        "Symbol('s0', positive=True, integer=True)",
        "Mul(Integer(9), Pow(Symbol('s0', positive=True, integer=True), Integer(2)))",
        "TruncToInt(Mul(Float('1.5', precision=53), ToFloat(Symbol('s0', positive=True, integer=True))))",
        "Pow(Symbol('s0'), Rational(1, 2))",
        "StrictLessThan(Integer(4), Symbol('s0'))",
        "s0**2 + 1",
    ],
)
def test_arithmetic_of_symbols_is_harmless(expression: str) -> None:
    assert is_arithmetic(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "exit()",
        "Symbol.__class__",
        "Integer('exit()')",
        "[s0 for s0 in s0]",
        "9**9**9**9",
        "Pow(Integer(9), Integer(64))",
        "Pow(Symbol('s0'), Integer(1000000000))",
        "LShift(Symbol('s0'), Float('1e18'))",
        "Float('1.5', precision=1000000000)",
        "Float('1e-999999999')",
        "s0(1)",
        7,
    ],
)
def test_what_is_more_or_never_ends_is_not(expression: object) -> None:
    assert not is_arithmetic(expression)


def test_another_number_of_inputs_is_refused(tmp_path: Path, source: Path) -> None:
    _write(source / "model.pt2", static=True)
    with pytest.raises(EngineFailure, match=r"declares 1 inputs; the program takes 2: x, options_scale\."):
        read("EXPORTED_PROGRAM", tmp_path, inputs=[{"name": "x", "shape": [3, 4]}])


def _replace(path: Path, ending: str, data: bytes) -> None:
    """Write the archive again with another member, or with one more if none ends so."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(members)).partition("/")[0]
    found = [name for name in members if name.endswith(ending)]
    members[found[0] if found else f"{root}/{ending}"] = data
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


def test_code_in_example_inputs_is_not_run(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    _write(source / "model.pt2", static=True)
    buffer = io.BytesIO()
    torch.save(((_Code(),), {}), buffer)
    _replace(source / "model.pt2", "sample_inputs/model.pt", buffer.getvalue())
    with pytest.raises(EngineFailure) as raised:
        read("EXPORTED_PROGRAM", tmp_path)
    assert raised.value.reason is FailureReason.UNSAFE_MODEL
    assert not (tmp_path / "ran").exists()


def test_pickled_objects_are_refused_by_name(tmp_path: Path, source: Path) -> None:
    _write(source / "model.pt2", static=True)
    _replace(source / "model.pt2", "data/constants/opaque_obj_0", b"x")
    with pytest.raises(EngineFailure, match="holds pickled objects, whose loading would run code") as raised:
        read("EXPORTED_PROGRAM", tmp_path)
    assert raised.value.reason is FailureReason.UNSAFE_MODEL
    assert raised.value.evidence.endswith("opaque_obj_0")


def test_a_damaged_program_is_refused(tmp_path: Path, source: Path) -> None:
    _write(source / "model.pt2", static=True)
    _replace(source / "model.pt2", "models/model.json", b"{}")
    with pytest.raises(EngineFailure, match=r"torch cannot load the program 'model\.pt2'") as raised:
        read("EXPORTED_PROGRAM", tmp_path)
    assert raised.value.reason is FailureReason.INVALID_MODEL
    (source / "model.pt2").write_bytes((source / "model.pt2").read_bytes()[:1000])
    with pytest.raises(EngineFailure, match=r"torch.export program, but 'model.pt2' looks like a truncated zip"):
        read("EXPORTED_PROGRAM", tmp_path)
