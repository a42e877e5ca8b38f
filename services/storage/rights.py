"""What each role may do in the bucket, as policies in the language of AWS, which MinIO and SeaweedFS speak, too.

The registry may do everything there. Nobody else removes stored bytes, and a worker reaches nothing beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.storage.folders import OWN_PREFIXES

ROLES = ("registry", "tasks", "worker")
"""The registry, the task services, and the workers."""


def policy(role: str, bucket: str) -> dict[str, Any]:
    """Return the policy of a role, one of ROLES, in a bucket."""
    everything = f"arn:aws:s3:::{bucket}"
    if role == "registry":
        return _policy([_statement("Allow", ("*",), everything, f"{everything}/*")])
    # Who may not list is told 403 of a key that is not there, and not 404.
    statements = [_statement("Allow", ("GetBucketLocation", "ListBucket"), everything)]
    if role == "worker":
        statements.append(_statement("Allow", ("GetObject", *_PUT), f"{everything}/cas/*"))
    else:
        # They save packages into folders that users name, and keep these as asked.
        own = [f"{everything}/{prefix}/*" for prefix in OWN_PREFIXES]
        others = [f"{everything}/{prefix}/*" for prefix in OWN_PREFIXES if prefix != "cas"]
        statements += [
            _statement("Allow", ("GetObject", *_PUT, "DeleteObject"), f"{everything}/*"),
            _statement("Deny", ("DeleteObject",), *own),
            _statement("Deny", _PUT, *others),
        ]
    return _policy(statements)


# Of large files, parts are sent.
_PUT = ("PutObject", "AbortMultipartUpload", "ListMultipartUploadParts")


def _policy(statements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _statement(effect: str, actions: Sequence[str], *resources: str) -> dict[str, Any]:
    return {"Effect": effect, "Action": [f"s3:{each}" for each in actions], "Resource": list(resources)}
