"""Many requests that are nearly right, or junk, to every method: `python -m tests.chaos.fuzz --calls 50000`.

Prints how often each service answered with each code, and what the process weighed meanwhile, in which the services and
their callers are. The requests are those of `tests/contract/test_fuzz.py`, with a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import hypothesis
import psutil
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from services.local.nats import NatsServer
from services.local.postgres import PostgresServer
from services.local.s3 import S3Server
from services.platform.errors import from_rpc_error
from services.platform.logs import configure_logs
from services.platform.settings import Settings
from tests.contract.fuzzing import junk, spoil
from tests.contract.requests import METHODS, request_of, right
from tests.contract.suite import Suite, open_suite

FAULTS = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "CANCELLED"})
"""What no request may be answered: it blames the service, or says nothing."""
AT_ONCE = 8
ROUND = 25
"""Requests that are made at once for a method: half of them nearly right, half junk."""


class Fuzz:
    """Calls, and what came of them.

    Attributes:
        codes: Process and code → calls.
        faults: Sentences of answers that are not to be.
        weights: Calls so far and memory of this process, in MiB.
    """

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.codes: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []
        self.weights: list[tuple[int, int]] = []

    async def run(self, calls: int, seed: int) -> None:
        """Make so many calls, some of every method in turn."""
        dice, methods = random.Random(seed), sorted(METHODS)
        while (made := self.codes.total()) < calls:
            self.weights.append((made, psutil.Process().memory_info().rss >> 20))
            for method in methods:
                requests = _requests(method, self._suite.made, dice.randrange(1 << 30))
                await asyncio.gather(*(self._call(method, each) for each in requests))
        self.weights.append((self.codes.total(), psutil.Process().memory_info().rss >> 20))

    async def _call(self, method: str, request: Message) -> None:
        code = "OK"
        async with self._gate:
            try:
                await self._suite.call(method, request)
            except grpc.aio.AioRpcError as error:
                told = from_rpc_error(error)
                code = told.code.name
                if code in FAULTS or not told.message:
                    self.faults.append(f"{method}: {code}: {told.message} to {str(request)[:500]}")
        self.codes[METHODS[method][0], code] += 1


def _requests(method: str, made: dict[str, Any], seed: int) -> Sequence[Message]:
    found: list[Message] = []
    options = hypothesis.settings(
        max_examples=ROUND // 2, database=None, deadline=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    def nearly_right(data: st.DataObject) -> None:
        request = request_of(method, right(method, made))
        spoil(data, request)
        found.append(request)

    def nonsense(data: st.DataObject) -> None:
        found.append(data.draw(junk(METHODS[method][2].input_type)))

    for each in (nearly_right, nonsense):
        hypothesis.seed(seed)(options(given(data=st.data())(each)))()
    return found


@contextmanager
def servers(folder: Path) -> Iterator[Settings]:
    """Run the servers that the services need."""
    own = (
        PostgresServer(folder / "postgres", durable=False),
        NatsServer(folder / "nats", durable=False),
        S3Server(folder / "s3"),
    )
    try:
        for each in own:
            each.start()
        postgres, nats, s3 = own
        yield Settings.model_validate({
            "database_url": postgres.url, "nats_url": nats.url, "data_dir": folder / "data",
            "s3_endpoint": s3.endpoint, "s3_access_key": s3.access_key, "s3_secret_key": s3.secret_key,
            "s3_bucket": s3.bucket, "s3_region": s3.region,
        })  # fmt: skip
    finally:
        for each in own:
            each.stop()


async def fuzz(settings: Settings, calls: int, seed: int) -> Fuzz:
    """Make so many calls to services in this process."""
    async with open_suite(settings) as suite:
        made = Fuzz(suite)
        await made.run(calls, seed)
        return made


def main() -> None:
    """Run and print the codes; the status is 1 if there was one that is not to be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    configure_logs(Settings(log_level="error"), "fuzz")
    with tempfile.TemporaryDirectory(prefix="lathe-fuzz-") as folder, servers(Path(folder)) as settings:
        made = asyncio.run(fuzz(settings, options.calls, options.seed))
    names = sorted({code for _, code in made.codes})
    table = Table("service", *names, title=f"{made.codes.total()} calls of {len(METHODS)} methods, seed {options.seed}")
    for process in sorted({process for process, _ in made.codes}):
        table.add_row(process, *(str(made.codes[process, code]) for code in names))
    console = Console()
    console.print(table)
    console.print(
        "memory: "
        + ", ".join(f"{weight} MiB after {calls}" for calls, weight in made.weights[:: max(1, len(made.weights) // 8)])
    )
    for sentence in made.faults:
        console.print(sentence, markup=False)
    sys.exit(bool(made.faults))


if __name__ == "__main__":
    main()
