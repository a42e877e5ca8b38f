"""Values that the parent, the child and the engines share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

_MIN_INTERVAL = 0.05
DEATHS = "deaths"
"""Field of a request that is run again: what ended its processes, in order, each `{"step", "failure", "at"}`.

`at` is by `time.monotonic()`, which is that of all processes.
"""


@dataclass(frozen=True)
class Limits:
    """What one job may use.

    Attributes:
        memory_bytes: Resident memory of the child and everything it started, in bytes.
        timeout_seconds: Wall-clock time from the start of the job, in seconds.
        spent_seconds: How much of that time the job took in processes that died (see `Reporter.risk`).
    """

    memory_bytes: int
    timeout_seconds: float
    spent_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse limits that no job could keep.

        Raises:
            ValueError: A limit is not positive.
        """
        if self.memory_bytes <= 0:
            raise ValueError(f"memory_bytes must be positive, not {self.memory_bytes}")
        if self.timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds must be positive, not {self.timeout_seconds}")


@dataclass(frozen=True)
class Progress:
    """How far a job is: a fraction from 0 to 1 and what it is doing now."""

    fraction: float
    message: str


class Reporter:
    """What an entry function tells its caller while it works."""

    def __init__(self, send: Callable[[Progress], None], risk: Callable[[str], None] = lambda _step: None) -> None:
        """Hand every report to `send`, and every step that is risked to `risk`."""
        self._send = send
        self._risk = risk
        self._last = Progress(-1.0, "")
        self._sent_at = 0.0

    def progress(self, fraction: float, message: str) -> None:
        """Report progress.

        Reports with the same message that follow within 50 ms are dropped, so an engine may call this in a tight loop.

        Args:
            fraction: Share of the work that is done; clipped to 0…1.
            message: What the work is doing, for a person.
        """
        now = monotonic()
        if message == self._last.message and now - self._sent_at < _MIN_INTERVAL and fraction < 1.0:
            return
        self._last = Progress(min(max(float(fraction), 0.0), 1.0), message)
        self._sent_at = now
        self._send(self._last)

    def risk(self, step: str) -> None:
        """Say that the process may die of what it does from now on, and that the job can go on without that.

        Where it dies, a worker runs the job again, once for each step: in the same work directory, with the same
        request, in which `DEATHS` names the step.

        Args:
            step: Name of the step, the same in every process of the job; empty once it is over.
        """
        self._risk(step)


@dataclass(frozen=True)
class Layer:
    """One layer: whether it is active, and how, or why not."""

    active: bool
    detail: str


@dataclass(frozen=True)
class Sandbox:
    """The layers around one child, by name, in the order in which they were put on."""

    layers: dict[str, Layer]

    @property
    def network_absent(self) -> bool:
        """True where the kernel refuses the child every connection."""
        return self._any("network_namespace", "seccomp")

    @property
    def writes_confined(self) -> bool:
        """True where the kernel refuses every write outside the work directory."""
        return self._any("landlock", "mount_namespace")

    def describe(self) -> dict[str, Any]:
        """Return the layers as JSON-ready values, with the two promises that depend on them."""
        return {
            "network_absent": self.network_absent,
            "writes_confined": self.writes_confined,
            "layers": {name: {"active": layer.active, "detail": layer.detail} for name, layer in self.layers.items()},
        }

    def sentence(self) -> str:
        """Return one line for a log: what is active, and what is not and why."""
        active = [name for name, layer in self.layers.items() if layer.active]
        missing = [f"{name} ({layer.detail})" for name, layer in self.layers.items() if not layer.active]
        return f"active: {', '.join(active) or 'none'}" + (f"; not active: {', '.join(missing)}" if missing else "")

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Sandbox:
        """Return what a child reported: a mapping of layer name to [active, detail]."""
        return cls({str(name): Layer(bool(active), str(detail)) for name, (active, detail) in message.items()})

    def _any(self, *names: str) -> bool:
        return any(name in self.layers and self.layers[name].active for name in names)
