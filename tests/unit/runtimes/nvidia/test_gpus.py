"""How the GPUs of a machine are found, with a stand-in for the driver's library, and what is said if none fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.runtimes.nvidia import gpus
from engines.runtimes.nvidia.gpus import Gpu, Gpus, gpu_environment, missing_gpu
from engines.spec.devices import load_catalog
from tests.unit.runtimes.standins import compile_library, needs_compiler

T4 = load_catalog().device("nvidia-t4")
DRIVER = "580.65.06, CUDA 13.0"
HERE = Gpus((Gpu("Tesla T4", "GPU-1", "sm_75", DRIVER), Gpu("NVIDIA A10", "GPU-2", "sm_86", DRIVER)))

# What libcuda answers, by cuda.h: CUresult 0 is success, 100 no device, 803 a driver that does not fit the library.
LIBRARY = """
#include <string.h>
int cuInit(unsigned flags) { return %(init)d; }
int cuGetErrorString(int error, const char **words) { *words = "as the driver words it"; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = %(count)d; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device ? "NVIDIA A10" : "Tesla T4", length);
    return 0;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, 0x10 + device, 16); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? (device ? 8 : 7) : attribute == 76 ? (device ? 6 : 5) : -1;
    return 0;
}
"""
ASK = """
import dataclasses, json
from engines.runtimes.nvidia.gpus import gpus
print(json.dumps(dataclasses.asdict(gpus())))
"""


def found(folder: Path, *, init: int = 0, count: int = 2) -> dict[str, Any]:
    compile_library(folder / "libcuda.so.1", LIBRARY % {"init": init, "count": count})
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@needs_compiler
def test_gpus_are_found_in_the_order_of_frameworks(tmp_path: Path) -> None:
    answer = found(tmp_path)
    assert answer["missing"] == ""
    assert [tuple(gpu.values())[:3] for gpu in answer["found"]] == [
        ("Tesla T4", "10101010-1010-1010-1010-101010101010", "sm_75"),
        ("NVIDIA A10", "11111111-1111-1111-1111-111111111111", "sm_86"),
    ]
    assert answer["found"][0]["driver"].endswith(", CUDA 13.0")


@needs_compiler
def test_a_driver_that_does_not_work_is_quoted(tmp_path: Path) -> None:
    missing = found(tmp_path / "broken", init=803)["missing"]
    assert missing == "a working NVIDIA driver: cuInit answers 803 (as the driver words it)"
    assert found(tmp_path / "empty", count=0)["missing"] == "an NVIDIA GPU: the driver shows none to this process"


@pytest.mark.parametrize(
    ("device", "here", "missing"),
    [
        ("nvidia-t4", HERE, None),
        ("nvidia-a100", HERE, "an NVIDIA A100 with sm_80; the first GPU here is a Tesla T4 with sm_75"),
        ("nvidia-a10", HERE, "with sm_75; a later one is: choose it by CUDA_VISIBLE_DEVICES"),
        ("nvidia-l4", Gpus((Gpu("NVIDIA L40S", "GPU-3", "sm_89", DRIVER),)), "an NVIDIA L4 with sm_89"),
        ("nvidia-h100", Gpus((Gpu("NVIDIA H100 80GB HBM3", "GPU-4", "sm_90", DRIVER),)), None),
        ("nvidia-t4", Gpus(missing="an NVIDIA driver: there is no libcuda.so.1"), "there is no libcuda.so.1"),
    ],
)
def test_the_gpu_that_frameworks_use_decides(
    device: str, here: Gpus, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "gpus", lambda: here)
    said = missing_gpu(load_catalog().device(device))
    assert said is None if missing is None else missing in str(said)


def test_gpu_and_driver_are_part_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpus", lambda: HERE)
    assert gpu_environment(T4) == {"NVIDIA GPU": "Tesla T4", "NVIDIA driver": "580.65.06, CUDA 13.0"}
    assert gpu_environment(load_catalog().device("nvidia-h100")) == {}
