"""What a runtime's quantization came to is known to the process that goes on with a search."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.optimization.eight_bit import EightBit, EightBitForm
from engines.search.journal import Death, Journal

FORM = EightBitForm(Path("/scratch/net.onnx"), "NNCF, mixed", ("node_3",))


class Tried(EightBit):
    """Finds `FORM` for OpenVINO and nothing for others, and counts how often it looked."""

    asked: int = 0

    def _search(self, runtime: str, sessions: ExitStack) -> EightBitForm:
        self.asked += 1
        if runtime != "openvino":
            raise EngineFailure(FailureReason.PARITY_FAILED, "No INT8 form holds.")
        return FORM


def eight_bit(journal: Journal) -> Tried:
    nothing = cast(Any, None)
    return Tried(nothing, nothing, nothing, None, Path(), 1, 1.0, lambda _words: None, journal)


def test_another_process_quantizes_nothing_again(tmp_path: Path) -> None:
    path, risks = tmp_path / "net.json", list[str]()
    first = eight_bit(Journal("net", path, risks.append))
    assert first.make("openvino") is first.make("openvino") is FORM
    with pytest.raises(EngineFailure, match="No INT8 form holds"):
        first.make("onnxruntime")
    assert risks == [
        *("net: the quantization for openvino", ""),
        *("net: the quantization for onnxruntime", ""),
    ]

    death = Death(EngineFailure(FailureReason.TOOLCHAIN_CRASHED, "It crashed with SIGSEGV."), time.monotonic())
    deaths = {"net: tensorrt INT8 › the quantization for tensorrt": death}
    second = eight_bit(Journal.open("net", path, risks.append, deaths))
    assert second.make("openvino") == FORM
    with pytest.raises(EngineFailure, match="No INT8 form holds"):
        second.make("onnxruntime")
    with pytest.raises(EngineFailure, match="SIGSEGV") as raised:
        second.make("tensorrt")
    assert raised.value.reason is FailureReason.TOOLCHAIN_CRASHED
    assert second.asked == 0
