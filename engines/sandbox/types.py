"""Values that the parent, the child and the engines share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

_MIN_INTERVAL = 0.05
DEATHS = "deaths"
"""Field of a repeated request: the ends of its earlier processes, in order, each `{"step", "failure", "at"}`.

`at` is a time of `time.monotonic()`, which all processes share.
"""


@dataclass(frozen=True)
class Limits:
    """Limits of one job.

    Attributes:
        memory_bytes: Resident memory of the child and everything it started, in bytes.
        timeout_seconds: Wall-clock time from the start of the job, in seconds.
        spent_seconds: Part of that time that processes which died have used (see `Reporter.risk`).
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
    """Progress of a job: a fraction from 0 to 1, and the current step."""

    fraction: float
    message: str


class Reporter:
    """Messages from an entry function to its caller while it works."""

    def __init__(self, send: Callable[[Progress], None], risk: Callable[[str], None] = lambda _step: None) -> None:
        """Pass every report to `send`, and every risky step to `risk`."""
        self._send = send
        self._risk = risk
        self._last = Progress(-1.0, "")
        self._sent_at = 0.0

    def progress(self, fraction: float, message: str) -> None:
        """Report progress.

        Reports with the same message that follow within 50 ms are dropped, so an engine may call this in a tight loop.

        Args:
            fraction: Share of the work that is done; clipped to 0…1.
            message: The current step, for people.
        """
        now = monotonic()
        if message == self._last.message and now - self._sent_at < _MIN_INTERVAL and fraction < 1.0:
            return
        self._last = Progress(min(max(float(fraction), 0.0), 1.0), message)
        self._sent_at = now
        self._send(self._last)

    def risk(self, step: str) -> None:
        """Declare that the process may die from now on, and that the job can continue without this step.

        If it dies, a worker runs the job again, once per step, in the same work directory with the same request, in
        which `DEATHS` names the step.

        Args:
            step: Name of the step, the same in every process of the job; empty once it is over.
        """
        self._risk(step)


@dataclass(frozen=True)
class Layer:
    """One layer: whether it is active, and details or the reason why not."""

    active: bool
    detail: str


@dataclass(frozen=True)
class Sandbox:
    """The layers around one child, by name, in the order of their activation."""

    layers: dict[str, Layer]

    @property
    def network_absent(self) -> bool:
        """Whether the kernel refuses the child every connection."""
        return self._any("network_namespace", "seccomp")

    @property
    def writes_confined(self) -> bool:
        """Whether the kernel refuses every write outside the work directory."""
        return self._any("landlock", "mount_namespace")

    @property
    def confined(self) -> bool:
        """Whether the kernel gives both guarantees, without which only Python itself hinders a stranger's code."""
        return self.network_absent and self.writes_confined

    @property
    def active(self) -> list[str]:
        """The names of the layers that are active."""
        return [name for name, layer in self.layers.items() if layer.active]

    @property
    def missing(self) -> list[str]:
        """The names of those that are not, each with the reason."""
        return [f"{name} ({layer.detail})" for name, layer in self.layers.items() if not layer.active]

    def describe(self) -> dict[str, Any]:
        """Return the layers as JSON-ready values, with the two guarantees that they give."""
        return {
            "network_absent": self.network_absent,
            "writes_confined": self.writes_confined,
            "layers": {name: {"active": layer.active, "detail": layer.detail} for name, layer in self.layers.items()},
        }

    def sentence(self) -> str:
        """Return one line for a log: active layers, and inactive ones with the reason."""
        missing = f"; not active: {', '.join(self.missing)}" if self.missing else ""
        return f"active: {', '.join(self.active) or 'none'}{missing}"

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Sandbox:
        """Return the layers from a child's report, a mapping of layer name to [active, detail]."""
        return cls({str(name): Layer(bool(active), str(detail)) for name, (active, detail) in message.items()})

    def _any(self, *names: str) -> bool:
        return any(name in self.layers and self.layers[name].active for name in names)
