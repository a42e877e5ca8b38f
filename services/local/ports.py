"""Free TCP ports on 127.0.0.1."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Container

from services.local.errors import LocalError

# Below the kernel's range for outgoing connections, so that none of them takes a port.
_RANGE = range(20000, 32000)
_handed_out: set[int] = set()
_claims: dict[int, socket.socket] = {}
_lock = threading.Lock()


def is_free(port: int) -> bool:
    """Return whether nothing listens on this port of 127.0.0.1 (or of all addresses)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without it, a port with recently closed connections would look taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _claim(port: int) -> bool:
    """Claim a port for this process among all stacks of the machine; return False if another process has it.

    A stack chooses its ports seconds before its services listen on them, and another stack may do so meanwhile. The
    claim is a name in the kernel's abstract socket namespace, which has the scope of ports and ends with the process.
    """
    if port in _claims:
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0lathe/port/{port}")
    except OSError:
        claim.close()
        return False
    _claims[port] = claim
    return True


def free_port(wanted: int | None = None, avoid: Container[int] = ()) -> int:
    """Return `wanted` if it is free and allowed, else another free port that no earlier call returned.

    No other process gets the same port while this one lives.

    Raises:
        LocalError: No port is free.
    """
    with _lock:
        if wanted and wanted not in avoid and is_free(wanted) and _claim(wanted):
            return wanted
        for port in random.sample(_RANGE, 500):
            if port not in _handed_out and port not in avoid and is_free(port) and _claim(port):
                _handed_out.add(port)
                return port
    raise LocalError(f"No free port found on 127.0.0.1 between {_RANGE.start} and {_RANGE.stop}.")
