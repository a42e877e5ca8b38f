from __future__ import annotations

import asyncio

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.registry.v1.architecture_service_pb2 import CERTIFICATION_CERTIFIED, Architecture

from services.database.pool import Connection, Database
from services.platform.errors import LatheError, failed_precondition
from services.resources.store import ResourceStore

Architectures = ResourceStore[Architecture]
ALLOWED = ("display_name", "class_name", "source", "labels")


@pytest.fixture
async def stored(architectures: Architectures) -> Architecture:
    return await architectures.create(
        Architecture(class_name="Net", display_name="net", source="a", labels={"team": "x"})
    )


async def _rename(architectures: Architectures, stored: Architecture, name: str, etag: str = "") -> Architecture:
    sent = Architecture(name=stored.name, display_name=name, etag=etag)
    return await architectures.update(sent, FieldMask(paths=["display_name"]), ALLOWED)


async def test_an_update_changes_what_the_mask_names(architectures: Architectures, stored: Architecture) -> None:
    sent = Architecture(name=stored.name, source="b", display_name="ignored", owner="mallory", labels={"team": "y"})
    changed = await architectures.update(sent, FieldMask(paths=["source", "labels"]), ALLOWED)
    assert (changed.source, dict(changed.labels), changed.display_name) == ("b", {"team": "y"}, "net")
    assert (changed.uid, changed.owner, changed.create_time) == (stored.uid, stored.owner, stored.create_time)
    assert changed.etag != stored.etag
    assert changed.update_time.ToNanoseconds() > stored.update_time.ToNanoseconds()
    assert await architectures.get(stored.name) == changed


async def test_a_change_that_changes_nothing_keeps_the_etag(architectures: Architectures, stored: Architecture) -> None:
    assert await _rename(architectures, stored, "net") == stored


async def test_a_stale_etag_is_aborted(architectures: Architectures, stored: Architecture) -> None:
    changed = await _rename(architectures, stored, "one", stored.etag)
    with pytest.raises(LatheError) as caught:
        await _rename(architectures, stored, "two", stored.etag)
    assert (caught.value.code.name, caught.value.reason) == ("ABORTED", "ETAG_MISMATCH")
    assert await architectures.get(stored.name) == changed
    with pytest.raises(LatheError, match="has changed"):
        await architectures.delete(stored.name, stored.etag)
    await architectures.delete(stored.name, changed.etag)


async def test_one_of_many_changes_with_the_same_etag_wins(architectures: Architectures, stored: Architecture) -> None:
    outcomes = await asyncio.gather(
        *(_rename(architectures, stored, f"n{number}", stored.etag) for number in range(10)), return_exceptions=True
    )
    assert sum(isinstance(each, Architecture) for each in outcomes) == 1


async def test_no_change_without_an_etag_is_lost(architectures: Architectures, stored: Architecture) -> None:
    def labelled(number: int) -> asyncio.Task[Architecture]:
        def change(message: Architecture) -> None:
            message.labels[f"n{number}"] = "1"

        return asyncio.create_task(architectures.modify(stored.name, change))

    await asyncio.gather(*map(labelled, range(10)))
    assert len((await architectures.get(stored.name)).labels) == 11


async def test_an_update_to_a_taken_value_is_refused(
    architectures: Architectures, stored: Architecture, database: Database
) -> None:
    await architectures.create(Architecture(class_name="Other", display_name="other"))
    sent = Architecture(name=stored.name, class_name="Other")
    async with database.transaction() as connection:
        with pytest.raises(LatheError, match="class_name 'Other' is taken by 'architectures/other'"):
            await architectures.update(sent, FieldMask(paths=["class_name"]), ALLOWED, connection=connection)
        assert await connection.fetchval("SELECT 1") == 1, "the caller's transaction goes on"
    assert await architectures.get(stored.name) == stored


async def test_validation_sees_the_result_and_can_refuse(architectures: Architectures, stored: Architecture) -> None:
    def refuse(changed: Architecture) -> None:
        assert (changed.display_name, changed.class_name) == ("new", "Net")
        raise failed_precondition("NO", "not now")

    sent = Architecture(name=stored.name, display_name="new")
    with pytest.raises(LatheError, match="not now"):
        await architectures.update(sent, FieldMask(paths=["display_name"]), ALLOWED, refuse)
    assert await architectures.get(stored.name) == stored


async def test_a_service_changes_what_users_cannot(
    architectures: Architectures, stored: Architecture, database: Database
) -> None:
    def certify(message: Architecture) -> None:
        message.certification = CERTIFICATION_CERTIFIED
        message.owner = message.uid = message.name = "not possible"

    async def note(connection: Connection, before: Architecture, after: Architecture) -> None:
        assert (before.certification, after.certification) == (0, CERTIFICATION_CERTIFIED)
        await connection.execute("INSERT INTO outbox VALUES ('certified')")

    changed = await architectures.modify(stored.name, certify, on_change=note)
    assert (changed.certification, changed.owner, changed.name) == (CERTIFICATION_CERTIFIED, stored.owner, stored.name)
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1


async def test_search_and_labels_follow_a_change(
    architectures: Architectures, stored: Architecture, database: Database
) -> None:
    sent = Architecture(name=stored.name, display_name="Digits CNN", labels={"a": "b"})
    await architectures.update(sent, FieldMask(paths=["display_name", "labels"]), ALLOWED)
    row = await database.fetchrow("SELECT search_text, labels, display_name, revision FROM architectures")
    assert row is not None
    assert tuple(row) == ("digitscnn net", {"a": "b"}, "Digits CNN", 2)


@pytest.mark.parametrize("name", ["architectures/none", "", "architectures/a\0b", "models/'; --"])
async def test_what_does_not_exist_is_not_found(architectures: Architectures, name: str) -> None:
    change = architectures.update(Architecture(name=name), FieldMask(paths=["labels"]), ALLOWED)
    for attempt in (architectures.get(name), architectures.delete(name), change):
        with pytest.raises(LatheError) as caught:
            await attempt
        assert caught.value.code.name == "NOT_FOUND"
    assert await architectures.find("name", name) is None


async def test_a_deletion_can_be_refused(architectures: Architectures, stored: Architecture) -> None:
    async def refuse(_connection: Connection, found: Architecture) -> None:
        raise failed_precondition("IN_USE", f"{found.name} is in use")

    with pytest.raises(LatheError, match="is in use"):
        await architectures.delete(stored.name, on_delete=refuse)
    assert await architectures.delete(stored.name) == stored
    with pytest.raises(LatheError):
        await architectures.get(stored.name)


async def test_a_locked_resource_waits_for_its_transaction(
    architectures: Architectures, stored: Architecture, database: Database
) -> None:
    async with database.transaction() as connection:
        await architectures.get(stored.name, for_update=True, connection=connection)
        waiting = asyncio.create_task(_rename(architectures, stored, "later"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
    assert (await waiting).display_name == "later"


async def test_several_are_read_at_once_without_their_large_fields(
    architectures: Architectures, stored: Architecture
) -> None:
    found = await architectures.get_many([stored.name, "architectures/none", "a\0b"])
    assert list(found) == [stored.name]
    assert (found[stored.name].source, found[stored.name].etag) == ("", stored.etag)
