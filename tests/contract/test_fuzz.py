"""Whatever is sent to a service, its answer never blames the service: no request is answered UNKNOWN or INTERNAL.

Every method of the services that run is taken from its descriptor, so that a new one is fuzzed from its first day. The
requests are the same in every run; `FUZZ_EXAMPLES=500 pytest tests/contract/test_fuzz.py` tries as many new ones.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lathe.type.v1.error_reason_pb2 import ErrorReason

from services.platform.errors import from_rpc_error
from services.platform.settings import Settings
from services.platform.words import words
from tests.contract.fuzzing import junk, spoil
from tests.contract.requests import METHODS, request_of, right
from tests.contract.suite import Suite, open_suite

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
FUZZ = hypothesis_settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    # To make a request smaller takes minutes of calls, and the request says enough.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
REASONS = words(ErrorReason)
FAULTS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED}


@pytest.fixture(scope="module")
async def suite(apart: Callable[[], Settings]) -> AsyncIterator[Suite]:
    """Services of their own: fuzzing deletes what it finds, and other tests need what is there."""
    async with open_suite(apart()) as opened:
        yield opened


async def try_out(suite: Suite, method: str, request: Message) -> None:
    """Call a method; whatever it answers, it says why, and does not blame the service."""
    try:
        await suite.call(method, request)
    except grpc.aio.AioRpcError as error:
        told = from_rpc_error(error)
        assert told.code not in FAULTS, f"{method} answers {told.code.name}: {told.message} to {request}"
        assert told.message
        assert told.reason in REASONS, f"{method} gives {told.reason}"


@pytest.mark.parametrize("method", METHODS)
async def test_an_empty_request_is_answered(suite: Suite, method: str) -> None:
    await try_out(suite, method, request_of(method, {}))


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@FUZZ
async def test_a_request_that_is_nearly_right_is_answered(suite: Suite, method: str, data: st.DataObject) -> None:
    request = request_of(method, right(method, suite.made))
    spoil(data, request)
    await try_out(suite, method, request)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@FUZZ
async def test_junk_is_answered(suite: Suite, method: str, data: st.DataObject) -> None:
    await try_out(suite, method, data.draw(junk(METHODS[method][2].input_type)))
