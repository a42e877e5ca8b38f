"""AWS Signature Version 4 of a request without a body: enough to make a bucket without loading an SDK.

Source: "Signing AWS API requests", Amazon S3 API reference, single-chunk `Authorization` header.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def signed_headers(
    method: str, host: str, path: str, *, region: str, access_key: str, secret_key: str, now: datetime.datetime
) -> dict[str, str]:
    """Return the headers with which an S3 server takes this request; `path` needs no escaping, `now` is UTC."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    signed = {"host": host, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": stamp}
    names = ";".join(signed)
    canonical = "\n".join(
        [method, path, "", *(f"{name}:{value}" for name, value in signed.items()), "", names, _EMPTY_SHA256]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "authorization": f"AWS4-HMAC-SHA256 {credential}"}
