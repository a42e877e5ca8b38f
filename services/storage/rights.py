"""What each role may do in the bucket, as policies in the language of AWS, which MinIO and SeaweedFS speak, too.

The registry owns the bucket, and needs no policy. Nobody else removes stored bytes, and a worker reaches nothing beside
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.storage.folders import OWN_PREFIXES

ROLES = ("tasks", "worker")
"""The task services, and the workers."""


def policy(role: str, bucket: str) -> dict[str, Any]:
    """Return the policy of a role, one of ROLES, in a bucket."""
    everything = f"arn:aws:s3:::{bucket}"
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
    return {"Version": "2012-10-17", "Statement": statements}


# Of large files, parts are sent.
_PUT = ("PutObject", "AbortMultipartUpload", "ListMultipartUploadParts")


def _statement(effect: str, actions: Sequence[str], *resources: str) -> dict[str, Any]:
    return {"Effect": effect, "Action": [f"s3:{each}" for each in actions], "Resource": list(resources)}
