"""Health checks of the parts of a stack."""

from __future__ import annotations

import os
import socket
from typing import Literal

Health = Literal["healthy", "unhealthy", "down"]


def service_health(address: str, timeout: float = 2.0) -> Health:
    """Return the health of a gRPC service: "unhealthy" if it does not serve, "down" if it does not answer."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from lathe_client.tls import open_channel

    # A channel with its own pool, because a shared one would keep backing off after an earlier refusal.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with open_channel(address, os.environ.get("LATHE_TLS_CA_FILE", ""), options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            refused = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return "down" if refused else "unhealthy"
    return "healthy" if answer.status == health_pb2.HealthCheckResponse.SERVING else "unhealthy"


def port_answers(address: str, timeout: float = 2.0) -> bool:
    """Return whether `host:port` accepts connections."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout):
            return True
    except (OSError, ValueError):
        return False
