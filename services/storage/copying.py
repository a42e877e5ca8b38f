"""Copies inside a bucket: the store copies the bytes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minio import Minio

__all__ = ["copy"]

# A store copies this much well within the time that a request may take.
PART_BYTES = 256 << 20


def copy(client: Minio, bucket: str, source: str, target: str, size: int) -> None:
    """Copy the object under the key `source`, of `size` bytes, to another key; a large one in parts.

    Raises:
        minio.error.MinioException, urllib3.exceptions.HTTPError: As `Bucket.run`.
    """
    from minio.commonconfig import ComposeSource, CopySource

    if size <= PART_BYTES:
        client.copy_object(bucket, target, CopySource(bucket, source))
        return
    # The last part takes the rest, because the store refuses small ones.
    starts = range(0, size - size % PART_BYTES, PART_BYTES)
    ends = [*starts[1:], size]
    parts = [
        ComposeSource(bucket, source, offset=start, length=end - start) for start, end in zip(starts, ends, strict=True)
    ]
    client.compose_object(bucket, target, parts)
