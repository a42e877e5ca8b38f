"""The log of an attempt: batches that fit the bus, and the stored form."""

from __future__ import annotations

from lathe.type.v1 import event_pb2

from services.common.tasks.tasklog import MAX_BATCH_BYTES, MAX_LINE, AttemptLog, read_log


async def test_batches_are_bounded_in_bytes_and_lose_nothing() -> None:
    batches: list[event_pb2.TaskLogged] = []

    async def publish(batch: event_pb2.TaskLogged) -> None:
        batches.append(batch)

    log = AttemptLog(publish)
    line = "é€" * (MAX_LINE // 2)
    for _ in range(40):
        log.write(line)
    stored = await log.close()
    assert all(batch.ByteSize() < MAX_BATCH_BYTES + 4 * MAX_LINE for batch in batches)
    assert [batch.first_line for batch in batches] == [
        1 + sum(len(before.lines) for before in batches[:index]) for index in range(len(batches))
    ]
    assert [each.text for each in read_log(stored, 1)] == [line] * 40
