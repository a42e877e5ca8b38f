"""The journal of a search outlives its process."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.form import FormSpec
from engines.search.entry import Entry
from engines.search.journal import Death, Journal, deaths_of
from tests.unit.optimization.forms import OPENVINO, ORT

CRASH = EngineFailure(FailureReason.TOOLCHAIN_CRASHED, "It crashed with SIGSEGV.")
FATAL = FormSpec("inductor", "FP32")


def again(path: Path) -> Journal:
    deaths = {f"net: {step}": Death(CRASH, time.monotonic()) for step in ("inductor FP32", "the bad step")}
    return Journal.open("net", path, lambda _step: None, deaths)


def test_what_was_written_is_found_by_the_process_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "net.json"
    journal, failure = Journal("net", path), EngineFailure(FailureReason.TIMEOUT, "No answer.")
    began = journal.begin()
    journal.keep([Entry(ORT, failure=failure), Entry(OPENVINO, note="not made within 5 s")])

    found = again(path)
    assert found.begin() >= began  # later by the time since the death
    assert found.died_of("the bad step")
    assert not found.died_of("another")
    entry = found.find(OPENVINO)
    assert entry is not None
    assert entry.note == "not made within 5 s"
    assert (entry := found.find(ORT)) is not None
    assert entry.failure is not None
    assert entry.failure.reason is FailureReason.TIMEOUT  # it may pass, and is not tried again nevertheless
    assert not found.held(ORT)
    fatal = found.find(FATAL)
    assert fatal is not None
    assert fatal.failure is not None
    assert fatal.failure.message.startswith("inductor FP32 ended the process")


def test_a_work_that_begins_anew_does_not_read_what_lies_there(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    Journal("net", path).keep([Entry(ORT, note="tried")])
    assert Journal.open("net", path, lambda _step: None, {}).find(ORT) is None
    assert again(tmp_path / "absent.json").find(ORT) is None


def test_a_step_is_over_also_if_it_fails() -> None:
    said: list[str] = []
    with pytest.raises(KeyError), Journal("net", risk=said.append).risking("a step"):
        raise KeyError
    assert said == ["net: a step", ""]


def test_the_time_in_which_the_source_is_read_again_is_no_part_of_the_search(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    began = Journal("net", path).begin()
    request = {"deaths": [{"step": "net: a", "failure": CRASH.to_dict(), "at": time.monotonic() - 7.0}]}
    resumed = Journal.open("net", path, lambda _step: None, deaths_of(request))
    assert resumed.begin() - began >= 7.0
    assert deaths_of({}) == {}
