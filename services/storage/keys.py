"""Names of objects in the bucket.

cas/sha256/<xx>/<sha256>    the bytes with this SHA-256
cas/claims/<xx>/<sha256>    empty: somebody relies on these bytes (`claims.py`)
cas/gates/<xx>/<id>         empty: bytes whose names begin with xx are being removed at this moment
cas/owners/<id>             empty: the installation with this id uses the bucket
staging/…                   uploads: their parts, and whole files; what users may write to
"""

from __future__ import annotations

from lathe.type.v1.digest_pb2 import Digest

__all__ = [
    "BOOKKEEPING",
    "CLAIMS",
    "CONTENT",
    "GATES",
    "OWNERS",
    "STAGING",
    "claim_key",
    "content_key",
    "gates_of",
]

CONTENT = "cas/sha256/"
CLAIMS = "cas/claims/"
GATES = "cas/gates/"
OWNERS = "cas/owners/"
BOOKKEEPING = (CLAIMS, GATES, OWNERS)
"""Prefixes of what matters to the bucket that it is in alone, and is in no backup."""
STAGING = "staging/"
"""Prefix of the keys that users may write to."""


def content_key(digest: Digest) -> str:
    """Return the key of the object that holds these bytes."""
    return f"{CONTENT}{digest.sha256[:2]}/{digest.sha256}"


def claim_key(sha256: str) -> str:
    """Return the key of the claim on these bytes."""
    return f"{CLAIMS}{sha256[:2]}/{sha256}"


def gates_of(sha256: str) -> str:
    """Return the prefix of the gates that are closed while bytes with these first digits are removed."""
    return f"{GATES}{sha256[:2]}/"
