"""The log of an attempt: batches that fit the bus, and the stored form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lathe.internal.v1 import event_pb2

from services.tasks.state import tasklog
from services.tasks.state.tasklog import MAX_BATCH_BYTES, MAX_LINE, AttemptLog, read_log


class Followed:
    """A log, and what was published of it."""

    def __init__(self) -> None:
        self.batches: list[event_pb2.TaskLogged] = []
        self.log = AttemptLog(self._publish)

    async def _publish(self, batch: event_pb2.TaskLogged) -> None:
        self.batches.append(batch)

    async def end(self) -> tuple[list[str], list[str]]:
        """Return the lines that were published, and those of the stored log."""
        stored = await self.log.close()
        assert stored is not None
        lines = [each.text for each in read_log(stored.read_bytes(), 1)]
        self.log.discard()
        assert not stored.exists()
        assert [batch.first_line for batch in self.batches] == [
            1 + sum(len(before.lines) for before in self.batches[:index]) for index in range(len(self.batches))
        ]
        return [line for batch in self.batches for line in batch.lines], lines


async def test_batches_are_bounded_in_bytes_and_lose_nothing() -> None:
    followed = Followed()
    line = "é€" * (MAX_LINE // 2)
    for _ in range(40):
        followed.log.write(line)
    published, stored = await followed.end()
    assert all(batch.ByteSize() < MAX_BATCH_BYTES + 4 * MAX_LINE for batch in followed.batches)
    assert published == stored == [line] * 40


@given(st.lists(st.text(max_size=50), min_size=1, max_size=20))
async def test_whatever_is_written_is_published_and_stored_alike(texts: list[str]) -> None:
    followed = Followed()
    for number, text in enumerate(texts):
        followed.log.write(text)
        if number % 3 == 0:
            await followed.log.flush()
    published, stored = await followed.end()
    assert published == stored == [line for text in texts for line in text.splitlines() or [""]]


async def test_a_log_without_lines_has_no_file() -> None:
    log = Followed().log
    assert await log.close() is None
    log.discard()


async def test_a_log_that_is_too_long_says_so_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasklog, "MAX_LOG_BYTES", 1000)
    followed = Followed()
    for _ in range(100):
        followed.log.write("x" * 80)
    published, stored = await followed.end()
    assert published == stored
    assert stored[-1] == "(the log is cut here)"
    assert len(stored) < 12
