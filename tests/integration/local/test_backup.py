"""A backup of the servers alone: what is copied, what is refused, and that half of one is none."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats
import pytest
from minio import Minio

from services.database.migration import migrate
from services.local import dumps
from services.local.backup import back_up, restore
from services.local.errors import LocalError
from services.local.servers import Servers
from services.registry import migrations
from services.storage.hashing import hash_bytes
from services.storage.keys import content_key

STORED = b"weights" * 1000
KEY = content_key(hash_bytes(STORED))
ROW = """
INSERT INTO registry.{table} (
    uid, name, parent, display_name, owner, labels, create_time, update_time, revision, search_text, body, detail
) VALUES (gen_random_uuid(), '{name}', '{parent}', '', 'ann', '{{}}', now(), now(), 1, '', '', '')
"""
MODEL = ROW.format(table="models", name="models/net", parent="")
CHANNEL = ROW.format(table="channels", name="models/net/channels/production", parent="models/net")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Servers, dict[str, str]]]:
    """Servers with the registry's schema, a channel, and objects; the environment names them as it would others'."""
    data_dir = tmp_path_factory.mktemp("source")
    servers = Servers(data_dir, {}, durable=False)
    servers.start(lambda _name: None)
    try:
        asyncio.run(migrate(servers.postgres.url, "registry", migrations))
        asyncio.run(tell(servers.postgres.url, MODEL))
        asyncio.run(tell(servers.postgres.url, CHANNEL))
        put(servers, KEY, STORED)
        put(servers, "triton/net/production/config.pbtxt", b"name: 'net'")
        put(servers, "copy/of/weights.bin", STORED)
        yield servers, servers.settings()
    finally:
        servers.stop()


async def tell(url: str, statement: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [each[0] for each in await connection.fetch(statement)]
    finally:
        await connection.close()


def client(servers: Servers) -> Minio:
    server = servers.s3
    address = server.endpoint.removeprefix("http://")
    return Minio(address, server.access_key, server.secret_key, secure=False, region=server.region)


def put(servers: Servers, key: str, content: bytes) -> None:
    client(servers).put_object("lathe", key, io.BytesIO(content), len(content))


def test_a_backup_is_brought_up_to_date_and_restored_where_nothing_was(
    running: tuple[Servers, dict[str, str]], tmp_path: Path
) -> None:
    servers, environment = running
    folder, target = tmp_path / "backup", tmp_path / "target"
    put(servers, "gone/tomorrow", b"gone")
    first = back_up(folder, tmp_path, environment)
    assert (first.objects, first.damaged) == (4, ())
    kept = {path: path.stat().st_ino for path in (folder / "blobs").glob("*/*")}
    assert len(kept) == 3, "each content once"
    client(servers).remove_object("lathe", "gone/tomorrow")
    second = back_up(folder, tmp_path, environment)
    assert second.objects == 3
    left = {path: path.stat().st_ino for path in (folder / "blobs").glob("*/*")}
    assert len(left) == 2
    restore(folder, target, {})
    restored = Servers(target, {}, durable=False)
    restored.start(lambda _name: None)
    try:
        found = {str(each.object_name) for each in client(restored).list_objects("lathe", recursive=True)}
        assert found == {KEY, "triton/net/production/config.pbtxt", "copy/of/weights.bin"}
        with client(restored).get_object("lathe", "copy/of/weights.bin") as answer:
            assert answer.read() == STORED
        marked = "SELECT channel FROM registry.unsettled_channels"
        # Its folder may be of another moment than its rows: the registry looks at it.
        assert asyncio.run(tell(restored.postgres.url, marked)) == ["models/net/channels/production"]
    finally:
        restored.stop()


def test_what_is_damaged_in_the_store_is_named_and_left_out(
    running: tuple[Servers, dict[str, str]], tmp_path: Path
) -> None:
    servers, environment = running
    rotten = content_key(hash_bytes(b"as it was"))
    put(servers, rotten, b"as it is now")
    try:
        made = back_up(tmp_path / "backup", tmp_path, environment)
    finally:
        client(servers).remove_object("lathe", rotten)
    assert (made.objects, made.damaged) == (3, (rotten,))


def test_nothing_is_restored_beside_another_state(running: tuple[Servers, dict[str, str]], tmp_path: Path) -> None:
    servers, environment = running
    made = tmp_path / "backup"
    back_up(made, tmp_path, environment)
    asyncio.run(tell(servers.postgres.url, "CREATE DATABASE other"))
    with pytest.raises(LocalError, match="used by Lathe already"):
        restore(made, tmp_path, environment)
    elsewhere = environment | {"LATHE_DATABASE_URL": servers.postgres.database_url("other")}
    client(servers).remove_object("lathe", KEY)
    stored = made / "blobs" / KEY.removeprefix("cas/sha256/")
    stored.write_bytes(b"rotten")
    with pytest.raises(LocalError, match=rf"{stored} is missing or damaged"):
        restore(made, tmp_path, elsewhere)
    put(servers, KEY, STORED)
    asyncio.run(add_stream(servers.nats.url))
    with pytest.raises(LocalError, match="NATS holds streams"):
        restore(made, tmp_path, elsewhere)
    missing = environment | {"LATHE_DATABASE_URL": servers.postgres.database_url("missing")}
    with pytest.raises(LocalError, match=r'has to exist(?s:.*)"missing" does not exist'):
        restore(made, tmp_path, missing)
    (made / "backup.json").unlink()
    with pytest.raises(LocalError, match="no whole backup"):
        restore(made, tmp_path, elsewhere)
    with pytest.raises(LocalError, match="no state of Lathe"):
        back_up(made, tmp_path / "nothing", {})


async def add_stream(url: str) -> None:
    connection = await nats.connect(url)
    await connection.jetstream().add_stream(name="CHANGES", subjects=["c"])
    await connection.close()


def test_a_dump_that_breaks_off_leaves_nothing(running: tuple[Servers, dict[str, str]], tmp_path: Path) -> None:
    servers, _ = running
    file = tmp_path / "dump"
    dumps.dump(servers.postgres.url, file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    asyncio.run(tell(servers.postgres.url, "CREATE DATABASE half"))
    url = servers.postgres.database_url("half")
    with pytest.raises(LocalError, match="could not be restored"):
        dumps.load(url, file)
    assert dumps.is_empty(url)
    file.write_bytes(content)
    dumps.load(url, file)
    with pytest.raises(LocalError, match=r"could not be restored(?s:.*)already exists"):
        dumps.load(url, file)
    asyncio.run(tell(servers.postgres.url, "DROP DATABASE half"))
