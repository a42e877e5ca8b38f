from __future__ import annotations

import asyncio
import uuid

import pytest
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX, ModelVersion

from services.database.pool import Connection, Database
from services.platform.errors import LatheError
from services.platform.identity import acting_as
from services.resources.store import ResourceStore

Architectures = ResourceStore[Architecture]
Versions = ResourceStore[ModelVersion]


def net(class_name: str = "Net") -> Architecture:
    return Architecture(class_name=class_name, display_name=f"The {class_name}")


async def test_the_store_fills_in_what_it_owns(architectures: Architectures) -> None:
    sent = net()
    sent.MergeFrom(Architecture(source="x = 1", owner="mallory", etag="no", uid="no", name="architectures/no"))
    with acting_as("ada"):
        created = await architectures.create(sent)
    assert created.name == "architectures/net"
    assert created.owner == "ada"
    assert uuid.UUID(created.uid)
    assert created.etag.startswith('"')
    assert created.create_time == created.update_time
    assert created.source == "x = 1"
    assert sent.owner == "mallory", "the caller's message stays as it was"
    assert await architectures.get(created.name) == created


async def test_ids_come_from_names_and_stay_apart(versions: Versions) -> None:
    created = [await versions.create(ModelVersion(display_name="Größe 2"), parent="models/a") for _ in range(40)]
    expected = ["grosse-2", *(f"grosse-2-{number}" for number in range(2, 41))]
    assert [each.name for each in created] == [f"models/a/versions/{name}" for name in expected]
    other = await versions.create(ModelVersion(display_name="Größe 2"), parent="models/b")
    assert other.name == "models/b/versions/grosse-2"


async def test_ids_made_at_once_do_not_race(versions: Versions) -> None:
    created = await asyncio.gather(
        *(versions.create(ModelVersion(display_name="same"), parent="models/a") for _ in range(30))
    )
    assert len({each.name for each in created}) == 30
    assert "models/a/versions/same" in {each.name for each in created}


async def test_a_taken_explicit_id_is_refused(versions: Versions) -> None:
    await versions.create(ModelVersion(), parent="models/a", resource_id="1")
    with pytest.raises(LatheError, match="'models/a/versions/1'") as caught:
        await versions.create(ModelVersion(), parent="models/a", resource_id="1")
    assert caught.value.code.name == "ALREADY_EXISTS"


async def test_a_name_that_others_may_refer_to_is_given_once(
    architectures: Architectures, versions: Versions, database: Database
) -> None:
    first = await architectures.create(net("Gone"))
    await architectures.delete(first.name)
    again = await architectures.create(net("Gone"))
    assert (first.name, again.name) == ("architectures/gone", "architectures/gone-2")
    with pytest.raises(LatheError, match="'architectures/gone' was the name of another architecture") as told:
        await architectures.create(net("Other"), resource_id="gone")
    assert (told.value.code.name, told.value.reason) == ("FAILED_PRECONDITION", "NAME_RETIRED")
    assert await database.fetchval("SELECT count(*) FROM architectures") == 1
    # The name of one that nobody refers to is free again.
    draft = Architecture(class_name="Draft", display_name="Draft")
    await architectures.delete((await architectures.create(draft)).name)
    assert (await architectures.create(draft)).name == "architectures/draft"
    other = await versions.create(ModelVersion(), parent="models/a", resource_id="1")
    await versions.delete(other.name)
    assert (await versions.create(ModelVersion(), parent="models/a", resource_id="1")).name == other.name


async def test_a_taken_unique_field_is_named_with_its_value(architectures: Architectures) -> None:
    await architectures.create(net("Taken"), resource_id="first")
    with pytest.raises(LatheError, match="class_name 'Taken' is taken by 'architectures/first'") as caught:
        await architectures.create(net("Taken"), resource_id="second")
    assert caught.value.code.name == "ALREADY_EXISTS"
    assert caught.value.fields[0][0] == "class_name"


async def test_one_of_many_gets_a_unique_field(architectures: Architectures) -> None:
    outcomes = await asyncio.gather(*(architectures.create(net("One")) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(each, Architecture) for each in outcomes) == 1
    assert all(isinstance(each, Architecture | LatheError) for each in outcomes)


async def test_a_repeated_request_gets_the_first_result(architectures: Architectures) -> None:
    request_id = str(uuid.uuid4())
    first = await architectures.create(net(), request_id=request_id)
    assert await architectures.create(net(), request_id=request_id) == first
    assert await architectures.create(net(), request_id=request_id.upper()) == first


async def test_repeats_at_once_create_one(versions: Versions, database: Database) -> None:
    request_id = str(uuid.uuid4())
    outcomes = await asyncio.gather(
        *(versions.create(ModelVersion(display_name="v"), parent="models/a", request_id=request_id) for _ in range(20))
    )
    assert len({each.uid for each in outcomes}) == 1
    assert await database.fetchval("SELECT count(*) FROM versions") == 1


async def test_a_request_id_belongs_to_its_request_and_caller(architectures: Architectures) -> None:
    request_id = str(uuid.uuid4())
    with acting_as("ada"):
        await architectures.create(net("A"), request_id=request_id)
        with pytest.raises(LatheError) as caught:
            await architectures.create(net("B"), request_id=request_id)
    assert (caught.value.code.name, caught.value.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    with acting_as("bob"):
        assert (await architectures.create(net("B"), request_id=request_id)).class_name == "B"
    with pytest.raises(LatheError, match="not a UUID"):
        await architectures.create(net("C"), request_id="later")


async def test_a_failed_request_can_be_repeated(architectures: Architectures) -> None:
    request_id = str(uuid.uuid4())
    taken = await architectures.create(net("Net"), resource_id="first")
    with pytest.raises(LatheError, match="is taken"):
        await architectures.create(net("Net"), request_id=request_id)
    await architectures.delete(taken.name)
    assert (await architectures.create(net("Net"), request_id=request_id)).name == "architectures/net"


async def test_a_repeat_of_what_was_deleted_says_so(architectures: Architectures) -> None:
    request_id = str(uuid.uuid4())
    created = await architectures.create(net(), request_id=request_id)
    await architectures.delete(created.name)
    with pytest.raises(LatheError, match="is deleted"):
        await architectures.create(net(), request_id=request_id)


async def test_more_is_written_in_the_same_transaction(architectures: Architectures, database: Database) -> None:
    async def announce(connection: Connection, created: Architecture) -> None:
        await connection.execute("INSERT INTO outbox VALUES ($1)", created.name)

    async def fail(connection: Connection, created: Architecture) -> None:
        await announce(connection, created)
        raise LookupError(created.name)

    request_id = str(uuid.uuid4())
    for _ in range(2):
        await architectures.create(net("A"), request_id=request_id, on_create=announce)
    with pytest.raises(LookupError):
        await architectures.create(net("B"), on_create=fail)
    assert [row["subject"] for row in await database.fetch("SELECT subject FROM outbox")] == ["architectures/a"]
    assert await architectures.find("class_name", "B") is None


async def test_a_lost_race_leaves_the_callers_transaction_usable(
    architectures: Architectures, database: Database
) -> None:
    await architectures.create(net("A"))
    async with database.transaction() as connection:
        with pytest.raises(LatheError):
            await architectures.create(net("A"), connection=connection)
        await architectures.create(net("B"), connection=connection)
    assert await architectures.find("class_name", "B") is not None


async def test_columns_the_message_does_not_have(versions: Versions, database: Database) -> None:
    created = await versions.create(
        ModelVersion(format=MODEL_FORMAT_ONNX), parent="models/a", resource_id="1", extra={"seen": 3}
    )
    row = await database.fetchrow("SELECT format, seen, parent FROM versions")
    assert row is not None
    assert tuple(row) == (created.format, 3, "models/a")


@pytest.mark.parametrize("message", [Architecture(display_name="a\0b"), Architecture(labels={"a": "\0"})])
async def test_a_nul_character_is_refused(architectures: Architectures, message: Architecture) -> None:
    with pytest.raises(LatheError, match="NUL character") as caught:
        await architectures.create(message)
    assert caught.value.code.name == "INVALID_ARGUMENT"
