"""How a form is opened on a chip: with a stand-in for pyACL, as no chip is here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import BuiltForm, Where, runtimes
from engines.runtimes.ascend import opener, toolchain
from engines.runtimes.ascend.opener import open_file
from engines.runtimes.opened import UnfitMachineError
from engines.spec.devices import load_catalog
from tests.unit.runtimes.ascend import acl_stand_in

BATCH = {"kind": "dynamic_batch_size", "gears": "1,4", "batches": "0", "names": "x", "varying": "0"}


@pytest.fixture(autouse=True)
def acl(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    acl_stand_in.CALLS.clear()
    monkeypatch.setitem(sys.modules, "acl", acl_stand_in)
    yield
    assert acl_stand_in.left() == 0  # every buffer, description and model is released


def model(folder: Path, *inputs: tuple[str, str, list[int]], dynamic: bool = False) -> str:
    path = folder / "model.om"
    path.write_text(json.dumps({"inputs": inputs, "dynamic": dynamic}))
    return str(path)


def test_a_form_of_fixed_shape_runs_and_is_released(tmp_path: Path) -> None:
    path = model(tmp_path, ("x", "float16", [2, 3]), ("k", "int64", []))
    opened = open_file(path, {"names": "x;k", "varying": ";"}, 1)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs, times = opened.timed({"k": np.array(4), "x": x})
    np.testing.assert_array_equal(outputs[0], (x + 1).astype(np.float16))  # the type is the form's
    assert outputs[1] == 5
    assert times.host_to_device > 0
    assert times.compute > 0
    assert times.device_to_host > 0
    opened.close()
    opened.close()
    assert {"unload", "destroy_desc", "destroy_dataset", "destroy_data_buffer", "reset_device"} <= set(
        acl_stand_in.CALLS
    )


def test_a_batch_that_is_no_profile_is_filled_up_and_cut_off(tmp_path: Path) -> None:
    opened = open_file(model(tmp_path, ("x", "float32", [4, 2]), dynamic=True), BATCH, 1)
    for samples, gear in ((1, 1), (3, 4), (4, 4)):
        x = np.random.default_rng(samples).random((samples, 2), np.float32)
        np.testing.assert_array_equal(opened.run({"x": x})[0], x + 1)
        assert acl_stand_in.CALLS[-1] == f"batch {gear}"
    with pytest.raises(ValueError, match="compiled for the profiles 1; 4, and 5 is none of them"):
        opened.run({"x": np.zeros((5, 2), np.float32)})
    opened.close()


def test_sizes_of_images_are_chosen_exactly(tmp_path: Path) -> None:
    options = {"kind": "dynamic_image_size", "gears": "4,6;8,8", "names": "x", "varying": "2,3"}
    opened = open_file(model(tmp_path, ("x", "float32", [1, 3, 8, 8]), dynamic=True), options, 1)
    x = np.ones((1, 3, 4, 6), np.float32)
    assert opened.run({"x": x})[0].shape == x.shape
    assert acl_stand_in.CALLS[-1] == "image 4,6"
    with pytest.raises(ValueError, match="4,6; 8,8, and 5,6 is none of them"):
        opened.run({"x": np.ones((1, 3, 5, 6), np.float32)})
    opened.close()


def test_profiles_of_dimensions_are_stated_with_all_shapes(tmp_path: Path) -> None:
    options = {"kind": "dynamic_dims", "gears": "1,8;4,8;4,16", "batches": "0", "names": "x;k", "varying": "0,1;"}
    opened = open_file(model(tmp_path, ("x", "float32", [4, 16]), ("k", "float32", [2]), dynamic=True), options, 1)
    x, k = np.ones((3, 8), np.float32), np.zeros(2, np.float32)
    found = opened.run({"x": x, "k": k})
    assert acl_stand_in.CALLS[-1] == "dims 4,8,2"
    assert [value.shape for value in found] == [(3, 8), (2,)]
    opened.close()


@pytest.mark.parametrize(
    ("order", "given", "largest"), [("nhwc", (2, 3, 4, 6), [4, 4, 6, 3]), ("nv12", (2, 6, 6), [4, 6, 6])]
)
def test_images_lie_as_aipp_reads_them(order: str, given: tuple[int, ...], largest: list[int], tmp_path: Path) -> None:
    opened = open_file(model(tmp_path, ("x", "uint8", largest), dynamic=True), {**BATCH, "orders": order}, 1)
    x = np.random.default_rng(0).integers(0, 255, given, np.uint8)
    expected = x.transpose(0, 2, 3, 1) if order == "nhwc" else x
    np.testing.assert_array_equal(opened.run({"x": x})[0], expected + 1)
    opened.close()


def test_another_chip_and_a_machine_without_pyacl_are_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path, ("x", "float32", [1]))
    with pytest.raises(UnfitMachineError, match="compiled for Ascend310P1, and this machine has Ascend310P3"):
        open_file(path, {"names": "x", "varying": "", "soc_version": "Ascend310P1"}, 1)
    monkeypatch.setitem(sys.modules, "acl", None)
    with pytest.raises(UnfitMachineError, match=r"finds no pyACL .*set_env\.sh"):
        open_file(path, {"names": "x", "varying": ""}, 1)


def test_a_file_that_acl_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.om").write_text("no model")
    room, device = runtimes()["ascend"], load_catalog().device("ascend-310p")
    monkeypatch.setattr(toolchain, "chip", lambda: "Ascend310P3")
    assert room.where(device) is Where.HERE
    assert room.runs_on(device) == "Ascend310P3"
    form = BuiltForm("ascend", device.id, "FP16", tmp_path, ("model.om",), ("y",), {"names": "x", "varying": ""})
    with pytest.raises(EngineFailure, match="failed with the code 500002") as caught:
        room.open(form, device, 1)
    assert caught.value.reason is FailureReason.TOOLCHAIN_CRASHED


def test_a_session_gives_the_outputs_their_names(tmp_path: Path) -> None:
    room, device = runtimes()["ascend"], load_catalog().device("ascend-310p")
    model(tmp_path, ("x", "float32", [4, 2]), dynamic=True)
    form = BuiltForm("ascend", device.id, "FP16", tmp_path, ("model.om",), ("y",), BATCH)
    with room.open(form, device, 1) as session:
        x = np.ones((2, 2), np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x + 1)
        assert [len(each["y"]) for each in session.run_many([{"x": x[:1]}, {"x": x}])] == [1, 2]


VENDORS: dict[str, set[str]] = {
    "rt": {
        *("set_device", "reset_device", "create_context", "destroy_context", "set_context", "memcpy"),
        *("malloc", "free", "malloc_host", "free_host"),
    },
    "mdl": {
        *("load_from_file", "unload", "create_desc", "get_desc", "destroy_desc", "get_num_inputs", "get_num_outputs"),
        *("get_input_size_by_index", "get_output_size_by_index", "get_input_index_by_name", "get_input_data_type"),
        *("get_output_data_type", "get_cur_output_dims", "create_dataset", "destroy_dataset", "add_dataset_buffer"),
        *("execute", "set_dynamic_batch_size", "set_dynamic_hw_size", "set_input_dynamic_dims"),
    },
    "util": {"bytes_to_ptr", "ptr_to_bytes"},
}
"""Names that stand in the vendor's own wrapper of pyACL and in its reference."""


def test_every_name_that_is_called_is_the_vendors() -> None:
    text = Path(opener.__file__).read_text()
    for group, names in VENDORS.items():
        called = set(re.findall(rf"acl\.{group}\.(\w+)", text))
        assert called <= names
        stand_in: Any = getattr(acl_stand_in, group)
        assert isinstance(stand_in, SimpleNamespace)
        assert set(vars(stand_in)) == names
    assert set(re.findall(r"acl\.(?!rt|mdl|util)(\w+)\(", text)) == {
        *("init", "get_soc_name", "create_data_buffer", "destroy_data_buffer")
    }
