"""One connection to NATS per process, and publishing that knows what became of a message."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from prometheus_client import Counter, Gauge, Histogram

from services.platform.tls import trusting

log = structlog.get_logger(__name__)

SECONDS = Histogram(
    "lathe_bus_seconds",
    "Time until NATS confirmed that a message, or a batch of them, is stored.",
    ["operation", "outcome"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 5),
)
CONNECTED = Gauge("lathe_bus_connected", "Whether a connection to NATS that was made is up.", ["client"])
DISCONNECTS = Counter("lathe_bus_disconnects", "Times that this process lost its connection to NATS.")

PUBLISH_TIMEOUT_SECONDS = 5.0
RECONNECT_WAIT_SECONDS = 0.2
_STORE_REFUSED = 10077
_REFUSED = re.compile(
    r'permissions violation for (?P<what>publish|subscription) to "(?P<subject>[^"]*)"', re.IGNORECASE
)
# The server counts headers too.
_HEADER_BYTES = 1024


class BusUnavailableError(ConnectionError):
    """NATS does not answer, or no stream takes the subject."""


class SubjectTakenError(Exception):
    """The stream holds a message of this subject already, and takes one at a time."""


class MessageTooLargeError(Exception):
    """The server takes no message of this size, now or later."""


class Bus:
    """A connection that reconnects without end. Publishing while it is down fails with BusUnavailableError."""

    def __init__(self, name: str) -> None:
        self.nc = Client()
        self.js: JetStreamContext = self.nc.jetstream(timeout=PUBLISH_TIMEOUT_SECONDS)
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._closing = False
        self._up = CONNECTED.labels(name)

    @classmethod
    async def connect(cls, url: str, name: str = "lathe", ca_file: Path | None = None) -> Bus:
        """Connect; tries until a server answers.

        Args:
            url: `nats://host:port`, or `tls://host:port`; several of a cluster, separated by commas.
            name: What the server calls this client.
            ca_file: Authorities to trust beside the system's, if it speaks TLS.

        Raises:
            nats.errors.Error: The server answers, and refuses the user or the password.
        """
        bus = cls(name)
        await bus.nc.connect(
            url.split(","),
            name=name,
            inbox_prefix=inbox_of(urlsplit(url.split(",", maxsplit=1)[0]).username or ""),
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type] # it sleeps for any number
            connect_timeout=2,
            ping_interval=10,
            max_outstanding_pings=2,
            allow_reconnect=False,
            error_cb=_log_error,
            disconnected_cb=bus._disconnected,
            reconnected_cb=bus._reconnected,
            tls=trusting(ca_file) if "tls://" in url else None,
        )
        # Not before: with it, the client repeats an attempt that was refused for ever, and does not tell.
        bus.nc.options["allow_reconnect"] = True
        bus._up.set(1)
        return bus

    @property
    def connected(self) -> bool:
        """Whether the server answers just now."""
        return self.nc.is_connected

    @property
    def max_bytes(self) -> int:
        """Bytes that a message may have, headers left aside."""
        return self.nc.max_payload - _HEADER_BYTES

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Call `callback` after every reconnect, until the returned function is called."""
        self._on_reconnect.append(callback)
        return lambda: self._on_reconnect.remove(callback)

    async def publish(self, subject: str, payload: bytes, msg_id: str = "") -> None:
        """Store a message in the stream of its subject; returns once it is on disk.

        A repeat with the same `msg_id` within the stream's window is stored once.

        Raises:
            BusUnavailableError: It may not be stored.
            SubjectTakenError: The stream holds one message per subject, and has one.
            MessageTooLargeError: It is larger than `max_bytes`.
        """
        headers = {"Nats-Msg-Id": msg_id} if msg_id else None
        if not self.nc.is_connected:
            # The client would buffer it and lose it with the process; the caller keeps what is not stored.
            raise BusUnavailableError(f"NATS does not answer; {subject} was not published.")
        if len(payload) > self.max_bytes:
            raise MessageTooLargeError(f"{subject} has {len(payload)} bytes; NATS takes {self.max_bytes}.")
        try:
            with timed("publish"):
                await self.js.publish(subject, payload, headers=headers)
        except nats.js.errors.APIError as error:
            if error.err_code == _STORE_REFUSED and "per subject" in (error.description or ""):
                raise SubjectTakenError(subject) from error
            raise BusUnavailableError(f"NATS did not store {subject}: {error.description}.") from error
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailableError(f"NATS did not store {subject}: {error or type(error).__name__}.") from error

    async def notify(self, subject: str, payload: bytes = b"") -> None:
        """Send a message without delivery guarantee: it is lost if nobody listens or NATS is down."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.nc.publish(subject, payload)

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], queue: str = ""
    ) -> Subscription:
        """Listen to a subject; survives reconnects. Of those who name the same queue, each message goes to one."""
        return await self.nc.subscribe(subject, queue=queue, cb=callback)

    async def close(self) -> None:
        """Send what is buffered, then disconnect."""
        self._closing = True
        with contextlib.suppress(nats.errors.Error, OSError, asyncio.TimeoutError):
            async with asyncio.timeout(2):
                await self.nc.flush()
        await self.nc.close()

    async def _reconnected(self) -> None:
        self._up.set(1)
        log.info("bus.reconnected")
        for callback in list(self._on_reconnect):
            await callback()

    async def _disconnected(self) -> None:
        self._up.set(0)
        if not self._closing:
            DISCONNECTS.inc()
            log.warning("bus.disconnected")


@contextlib.contextmanager
def timed(operation: str) -> Iterator[None]:
    """Time an exchange with NATS."""
    started, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "ok"
    finally:
        SECONDS.labels(operation, outcome).observe(time.perf_counter() - started)


def inbox_of(user: str) -> str:
    """Return the prefix of the subjects on which a user is answered: nobody else may hear them (`rights.py`)."""
    return "_INBOX." + re.sub(r"[^A-Za-z0-9_-]", "-", user) if user else "_INBOX"


async def _log_error(error: Exception) -> None:
    text = str(error) or type(error).__name__
    if found := _REFUSED.search(text):
        what, subject = found["what"].lower(), found["subject"]
        verb = "publish to" if what == "publish" else "listen to"
        log.error(
            "bus.refused",
            told=f"NATS does not let this process {verb} '{subject}': its user lacks the right. "
            "LATHE_NATS_URL names the user of another role, or the server's list of rights is that of another release.",
        )
        return
    log.debug("bus.error", error=text)
