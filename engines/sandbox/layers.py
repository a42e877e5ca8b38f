"""Which layers of the sandbox are active, in words and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
