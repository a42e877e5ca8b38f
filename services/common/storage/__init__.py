"""Bytes by their SHA-256: a port, its S3 adapter, decorators for caching and metering, and uploads by presigned URL.

ContentStore (port)
├── S3ContentStore      any S3 store
├── CachingStore        a bounded folder in front of another store
└── MeteredStore        Prometheus metrics around another store
Uploads                 large files from users, straight into the store
"""

from services.common.storage.caching import CachingStore
from services.common.storage.hashing import hash_bytes, hash_file
from services.common.storage.metering import MeteredStore
from services.common.storage.s3_store import S3ContentStore
from services.common.storage.store import ContentStore
from services.common.storage.uploads import StagedPart, Uploads

__all__ = [
    "CachingStore",
    "ContentStore",
    "MeteredStore",
    "S3ContentStore",
    "StagedPart",
    "Uploads",
    "hash_bytes",
    "hash_file",
]
