"""Which stores are trusted with a file's own name, tried on stand-ins for them."""

from __future__ import annotations

import io
import uuid

import pytest

from services.platform.settings import Settings
from services.storage import S3ContentStore, Uploads, hash_bytes
from services.storage.bucket import Bucket
from tests.integration.storage.conftest import random_bytes
from tests.integration.storage.front import AWS, CARELESS, MINIO, UNGUARDED, Rules, front
from tests.integration.storage.test_direct import direct, put
from tests.integration.storage.test_uploads import send

SIZE = 20 << 20


@pytest.mark.parametrize(("rules", "guarded"), [(AWS, False), (MINIO, True)], ids=["aws", "minio"])
async def test_a_store_that_verifies_gets_files_at_once(
    storage_settings: Settings, rules: Rules, guarded: bool
) -> None:
    with front(storage_settings, rules) as settings:
        uploads, store, bucket = Uploads(settings), S3ContentStore(settings), Bucket.of(settings)
        data, other = random_bytes(SIZE), random_bytes(SIZE)
        digest = hash_bytes(data)
        key = f"staging/{uuid.uuid4().hex}/1/1"
        await bucket.run(lambda client, _: client.put_object(bucket.name, key, io.BytesIO(other), SIZE, part_size=SIZE))
        request = await direct(uploads, digest)
        assert ("?" in request.url) is guarded
        assert await put(request, other) == 400
        assert await put(request, data, x_amz_copy_source=f"/{bucket.name}/{key}") == 403
        assert await put(request, data, x_amz_meta_snowball_auto_extract="true") == 403
        assert await put(request, data, x_amz_server_side_encryption_customer_algorithm="AES256") == 403
        assert not await store.exists(digest)
        assert await put(request, data) == 200
        assert await put(request, data) == 412
        await uploads.verify_and_commit(uuid.uuid4().hex, SIZE, digest)
        assert await store.read(digest) == data


@pytest.mark.parametrize("rules", [CARELESS, UNGUARDED], ids=["careless", "unguarded"])
async def test_a_store_that_would_take_other_bytes_gets_files_in_parts(
    storage_settings: Settings, rules: Rules
) -> None:
    with front(storage_settings, rules) as settings:
        uploads, store = Uploads(settings), S3ContentStore(settings)
        data, other = random_bytes(SIZE), random_bytes(SIZE)
        digest, upload_id = hash_bytes(data), uuid.uuid4().hex
        assert await uploads.direct(upload_id, digest) is None
        await send(data, await uploads.open(upload_id, SIZE))
        await uploads.verify_and_commit(upload_id, SIZE, digest)
        assert await store.read(digest) == data
        await send(other, await uploads.open(upload_id, SIZE))
        with pytest.raises(Exception, match="nothing was stored"):
            await uploads.verify_and_commit(upload_id, SIZE, digest)
        assert await store.read(digest) == data
