"""A package's own `infer.py` prints a detector's boxes, in an interpreter without Lathe."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from engines.package.writer import write_scripts
from tests.unit.evaluation.kit import SIDE, Desk, detector, identity

SCRIPT = """
import sys, runpy, numpy as np
model = runpy.run_path(sys.argv[1])["Model"]()
inputs = np.load(sys.argv[2])
(found, other) = model.predictions(inputs, model.run(inputs))
assert found["labels"].tolist() == [1], found
assert found["boxes"].tolist() == [[10, 60, 30, 80]], found
assert len(other["scores"]) == 0, other
assert not [name for name in sys.modules if name.partition(".")[0] == "engines"]
"""


def run(*command: object) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-I", *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, cwd="/", check=False, env={"PATH": "/usr/bin"})


def test_it_prints_and_returns_boxes(desk: Desk, tmp_path: Path) -> None:
    args = {"score_threshold": {"sf": 0.5}, "label_offset": {"si": 1}}
    desk.put_package(detector(), "detection", [("label", ["cat", "dog"])], args=args)
    package = desk.folder / "package"
    write_scripts(package, ["onnxruntime"])
    image = np.zeros((2, 1, SIDE, SIDE), np.float32)
    image[0, 0, 0, :6] = [10, 60, 30, 80, 255, 2]
    image[1, 0, 0, :6] = [10, 60, 30, 80, 99, 2]
    np.save(tmp_path / "x.npy", image)
    printed = run(package / "infer.py", "--input", tmp_path / "x.npy")
    assert printed.returncode == 0, printed.stderr
    assert "box[0]: dog 1.0000 at 10.0 60.0 30.0 80.0" in printed.stdout
    assert "box[1]" not in printed.stdout
    (tmp_path / "use.py").write_text(SCRIPT)
    used = run(tmp_path / "use.py", package / "infer.py", tmp_path / "x.npy")
    assert used.returncode == 0, used.stderr


def test_outputs_that_do_not_fit_the_method_give_a_note(desk: Desk) -> None:
    desk.put_package(identity({"x": ("y", 0)}, 3), "yolo")
    write_scripts(desk.folder / "package", ["onnxruntime"])
    printed = run(desk.folder / "package" / "infer.py")
    assert printed.returncode == 0, printed.stderr
    assert "note: the outputs do not fit the method yolo: a yolo head is expected" in printed.stdout


def test_outputs_of_any_name_are_written(desk: Desk, tmp_path: Path) -> None:
    names = ["file", "args", "kwds", "allow_pickle", "self", "a/b", "größe: 1"]
    desk.put_package(identity({f"x{index}": (name, 0) for index, name in enumerate(names)}, 3), "raw")
    write_scripts(desk.folder / "package", ["onnxruntime"])
    printed = run(desk.folder / "package" / "infer.py", "--output", tmp_path / "y.npz")
    assert printed.returncode == 0, printed.stderr
    with np.load(tmp_path / "y.npz") as written:
        assert written.files == names
        assert all(written[name].shape == (1, 3) for name in names)


TWO = """
import sys, runpy, numpy as np
x = {"x": np.ones((1, 3), np.float32)}
for package, name in zip(sys.argv[1:], ("first", "second")):
    model = runpy.run_path(f"{package}/infer.py")["Model"]()
    assert list(model.run(x)) == [name]
roots = {name.partition(".")[0] for name in sys.modules if name.startswith("package_")}
assert len(roots) == 2, roots
"""


def test_two_packages_are_open_in_one_process_each_with_its_own_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        Desk(tmp_path / name).put_package(identity({"x": (name, 0)}, 3), "raw")
        write_scripts(tmp_path / name / "package", ["onnxruntime"])
    used = run("-c", TWO, tmp_path / "first/package", tmp_path / "second/package")
    assert used.returncode == 0, used.stderr
