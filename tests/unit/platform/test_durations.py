"""Durations in seconds."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from lathe.converter.v1.conversion_service_pb2 import ConversionSpec

from services.platform.durations import whole_seconds
from services.platform.errors import LatheError
from services.platform.interceptors.validation import check


def test_a_duration_is_never_cut_short() -> None:
    assert whole_seconds(ConversionSpec().timeout) == 0
    assert whole_seconds(Duration(seconds=60)) == 60
    assert whole_seconds(Duration(seconds=1, nanos=1)) == 2


@pytest.mark.parametrize(
    ("timeout", "message"),
    [(Duration(), "1s"), (Duration(seconds=-1), "1s"), (Duration(nanos=5), "1s"), (Duration(seconds=86401), "86400s")],
)
def test_a_time_limit_is_of_a_second_to_a_day(timeout: Duration, message: str) -> None:
    spec = ConversionSpec(model_version="models/a/versions/1", template="templates/b")
    check(spec)
    spec.timeout.CopyFrom(timeout)
    with pytest.raises(LatheError) as caught:
        check(spec)
    assert [field for field, _ in caught.value.fields] == ["timeout"]
    assert message in caught.value.message
