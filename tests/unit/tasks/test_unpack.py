"""Work and outcomes are read by the name of their type, whichever package had it when they were packed."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any
from lathe.internal.v1.conversion_pb2 import ConversionOutcome, ConversionWork

from services.tasks.kind import unpack


@pytest.mark.parametrize("package", ["lathe.internal.v1", "lathe.converter.v1"])
def test_what_waits_is_read_after_its_type_has_moved(package: str) -> None:
    packed = Any(
        type_url=f"type.googleapis.com/{package}.ConversionWork", value=ConversionWork(seed=7).SerializeToString()
    )
    work = ConversionWork()
    assert unpack(packed, work)
    assert work.seed == 7


def test_another_type_is_not_read() -> None:
    packed = Any()
    packed.Pack(ConversionOutcome(hardware="h"))
    assert not unpack(packed, ConversionWork())
    assert not unpack(Any(), ConversionWork())
