from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.parity.report import OutputParity, ParityReport, Verdict
from engines.runtimes.form import FormSpec
from engines.search.entry import Entry
from engines.search.record import Conditions, Record
from engines.spec.tolerances import TOLERANCES
from engines.tensors.samples import SampleSource
from engines.timing.paired import Latency
from tests.unit.optimization.forms import ORT, graph, samples

PARITY = ParityReport(
    TOLERANCES["INT8"],
    (OutputParity("y", math.inf, math.nan, 0.5, -200.0, None, Verdict.FAIL, "2 elements are not finite"),),
    7,
    SampleSource.GENERATED,
    0,
    (1, 4),
    ("noise", "images"),
)
SPEED = Latency(ORT.name, 1.0, 1.1, 1.2, 2.0, 1.9, 2.1)


def read(record: Record) -> Record:
    return Record.from_json(record.to_json())


def test_an_entry_comes_back_whole_and_says_who_measured_it() -> None:
    entry = Entry(ORT, PARITY, SPEED, 12.0, 5, 6, 0.75, note="eliminated after 4 rounds: 0.61x of the best")
    record = Record()
    record.put("key", entry)
    assert record.find("key").measured_by == ""  # type: ignore[union-attr]
    found, name = read(record).find("key"), hashlib.sha256(record.to_json().encode()).hexdigest()
    assert found is not None
    assert found.parity is not None
    assert math.isnan(found.parity.outputs[0].max_rel_error)
    assert found.parity.verdict is Verdict.FAIL
    assert (found.latency, found.samples_per_second, found.size_bytes, found.memory_bytes) == (SPEED, 12.0, 5, 6)
    assert (found.accuracy, found.note, found.measured_by) == (0.75, entry.note, name)
    assert found.holds
    again = Record()
    again.put("key", found)
    assert read(again).find("key").measured_by == name  # type: ignore[union-attr]


def test_a_quantized_form_is_known_by_its_quantizer_and_the_nodes_that_it_keeps() -> None:
    record, specs = Record(), [FormSpec("openvino", "INT8", "NNCF", kept=kept) for kept in ((), ("b", "a"))]
    for number, spec in enumerate(specs):
        record.put(str(number), Entry(spec, latency=SPEED))
    found = [entry.spec for number in range(2) if (entry := read(record).find(str(number)))]
    assert found == specs
    assert [spec.quantized_by for spec in found] == ["NNCF", "NNCF, 2 nodes in floating point"]


def test_failures_come_back_but_those_that_may_pass() -> None:
    record = Record()
    for reason in FailureReason:
        record.put(reason.value, Entry(ORT, failure=EngineFailure(reason, "no", evidence="seen")))
    assert record.find("TIMEOUT") is None
    assert record.find("OUT_OF_MEMORY") is None
    kept = read(record).find("UNSUPPORTED_OPERATOR")
    assert kept is not None
    assert kept.failure is not None
    assert (kept.failure.reason, kept.failure.evidence) == (FailureReason.UNSUPPORTED_OPERATOR, "seen")
    assert not kept.holds


def test_what_was_not_tried_is_not_recorded() -> None:
    record = Record()
    record.put("key", Entry(ORT, note="not tried: the budget of 1 s was spent"))
    assert record.measurements == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 0, "measurements": {"key": {}}}', '{"version": 1}'])
def test_what_is_no_record_is_an_empty_one(text: str) -> None:
    assert Record.from_json(text).measurements == {}


def test_a_measurement_that_cannot_be_read_is_none() -> None:
    record = Record.from_json(json.dumps({"version": 1, "measurements": {"key": {"spec": 3}, "other": []}}))
    assert record.find("key") is None
    assert record.find("other") is None


def test_keys_differ_with_all_that_a_measurement_depends_on(tmp_path: Path) -> None:
    first, second = graph(tmp_path / "a" / "m.onnx"), graph(tmp_path / "b" / "m.onnx", scale=2.0)
    conditions = Conditions.of(first, samples(), {"threads": 1})
    assert conditions == Conditions.of(first, samples(), {"threads": 1})
    others = [Conditions.of(second, samples(), {"threads": 1}), Conditions.of(first, samples(), {"threads": 2})]
    knob = FormSpec("onnxruntime", "FP32", knobs=(("spinning", "off"),))
    keys = {conditions.key(ORT), conditions.key(knob), *(other.key(ORT) for other in others)}
    assert len(keys) == 4


def test_other_calibration_makes_other_forms_of_those_that_are_quantized_alone(tmp_path: Path) -> None:
    one, other = (Conditions.of(graph(tmp_path / "m.onnx"), samples(), {}, calibrated_on=data) for data in "ab")
    quantized = FormSpec("onnxruntime", "INT8", quantizer="quantized")
    assert one.key(ORT) == other.key(ORT)
    assert one.key(quantized) != other.key(quantized)
