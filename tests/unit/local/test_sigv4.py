from __future__ import annotations

import datetime

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from services.local.sigv4 import signed_headers


def test_signs_as_the_sdk_does() -> None:
    request = AWSRequest("PUT", "http://127.0.0.1:9000/lathe", headers={"host": "127.0.0.1:9000"})
    S3SigV4Auth(Credentials("key", "secret"), "s3", "us-east-1").add_auth(request)
    now = datetime.datetime.strptime(request.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    ours = signed_headers(
        "PUT", "127.0.0.1:9000", "/lathe", region="us-east-1", access_key="key", secret_key="secret", now=now
    )
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]
