"""Choosing the first form, when no time means anything: after a candidate that ended the process before."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

from engines.failures import EngineFailure, FailureReason
from engines.quantization.choosing import Choice
from engines.runtimes import BuiltForm
from engines.runtimes.form import FormSpec, Made
from engines.search.journal import Death, Journal
from engines.search.request import Plan
from tests.unit.optimization.forms import ORT

CRASH = EngineFailure(FailureReason.TOOLCHAIN_CRASHED, "It crashed with SIGSEGV.")
DEADLY, REFUSED, GOOD, LATER = (
    FormSpec("onnxruntime", "INT8", name) for name in ("deadly", "refused", "good", "later")
)


class Maker:
    """Notes what it is asked for, and refuses one form."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[FormSpec]()

    def make(self, spec: FormSpec) -> Made:
        self.asked.append(spec)
        if spec == REFUSED:
            raise EngineFailure(FailureReason.UNSUPPORTED_OPERATOR, "Nothing to quantize.")
        (self.folder / "m.onnx").write_bytes(b"1234")
        form = BuiltForm("onnxruntime", "cpu-x86-64", "INT8", self.folder, ("m.onnx",), ("y",))
        return cast(Made, type("Form", (), {"form": form})())


def test_a_form_that_ended_the_process_is_listed_and_the_next_one_is_made(tmp_path: Path) -> None:
    risked: list[str] = []
    death = {f"net: {DEADLY.name}": Death(CRASH, time.monotonic())}
    journal = Journal.open("net", tmp_path / "journal.json", risked.append, death)
    maker, unseen = Maker(tmp_path), object()
    truth: Any = type("Truth", (), {"unseen": lambda _self, _spec, missing: (unseen, missing)})()
    told: list[tuple[float, str]] = []
    choice = Choice(maker, cast(Any, None), truth, 1, tmp_path, 0, lambda *said: told.append(said), journal)

    found = choice.by_making(Plan([ORT], [DEADLY, REFUSED, GOOD], [GOOD, LATER]), "a chip")

    assert maker.asked == [REFUSED, GOOD]
    assert [entry.spec for entry in found.entries] == [DEADLY, REFUSED, GOOD]
    assert [entry.failure.reason if entry.failure else None for entry in found.entries] == [
        FailureReason.TOOLCHAIN_CRASHED,
        FailureReason.UNSUPPORTED_OPERATOR,
        None,
    ]
    assert found.best is found.entries[-1]
    assert found.best.size_bytes == 4
    parity: Any = found.best.parity
    assert parity == (unseen, "a chip")
    assert risked == [f"net: {REFUSED.name}", "", f"net: {GOOD.name}", ""]
    assert [words for _, words in told] == [f"making {REFUSED.name}", f"making {GOOD.name}"]
    assert [part for part, _ in told] == sorted(part for part, _ in told)
