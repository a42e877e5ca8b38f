"""Bytes by their SHA-256: a port, its S3 adapter, decorators for caching and metering, and uploads by signed request.

ContentStore (port)
├── S3ContentStore      any S3 store
├── CachingStore        a bounded folder in front of another store
└── MeteredStore        Prometheus metrics around another store
Uploads                 files from users, straight into the store
"""

from services.storage.caching import CachingStore
from services.storage.hashing import hash_bytes, hash_file
from services.storage.metering import MeteredStore
from services.storage.parts import StagedPart, spans
from services.storage.s3_store import S3ContentStore
from services.storage.store import ContentStore
from services.storage.uploads import LARGE_AT_ONCE, SMALL_BYTES, Uploads

__all__ = [
    "LARGE_AT_ONCE",
    "SMALL_BYTES",
    "CachingStore",
    "ContentStore",
    "MeteredStore",
    "S3ContentStore",
    "StagedPart",
    "Uploads",
    "hash_bytes",
    "hash_file",
    "spans",
]
