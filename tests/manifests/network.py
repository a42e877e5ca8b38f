"""What NetworkPolicies allow, decided by the rules of Kubernetes.

A pod that a policy selects for a direction may only do there what one of its policies allows. Both ends of a connection
need that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it.

    Attributes:
        name: For people.
        labels: Its labels.
        namespace: Its namespace.
        namespace_labels: Labels of the namespace; Kubernetes adds its name.
        ports: What it listens on, by name.
    """

    name: str
    labels: Mapping[str, str]
    namespace: str
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """A cluster that keeps these policies."""

    policies: Sequence[dict[str, Any]]

    def allows(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Return whether one pod may open a connection to another."""
        return self.sends(source, target, port, protocol) and self.takes(source, target, port, protocol)

    def sends(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Return whether the policies of the source let it open the connection."""
        return self._passes("Egress", source, target, lambda each: _on(each, target, port, protocol))

    def takes(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Return whether the policies of the target let it take the connection."""
        return self._passes("Ingress", target, source, lambda each: _on(each, target, port, protocol))

    def _passes(self, direction: str, own: Pod, peer: Pod, on_port: Callable[[dict[str, Any]], bool]) -> bool:
        holding = [
            each["spec"]
            for each in self.policies
            if each["metadata"]["namespace"] == own.namespace
            and direction in each["spec"]["policyTypes"]
            and _selects(each["spec"]["podSelector"], own.labels)
        ]
        peers, rules = ("to", "egress") if direction == "Egress" else ("from", "ingress")
        return not holding or any(
            (not rule.get(peers) or any(_is(own, peer, each) for each in rule[peers]))
            and (not rule.get("ports") or any(map(on_port, rule["ports"])))
            for spec in holding
            for rule in spec.get(rules) or ()
        )


def _is(own: Pod, peer: Pod, wanted: dict[str, Any]) -> bool:
    assert wanted.keys() <= {"podSelector", "namespaceSelector"}, (
        "addresses outside of the cluster are not decided here"
    )
    if "namespaceSelector" in wanted:
        labels = {"kubernetes.io/metadata.name": peer.namespace, **peer.namespace_labels}
        if not _selects(wanted["namespaceSelector"], labels):
            return False
    elif peer.namespace != own.namespace:
        return False
    return _selects(wanted.get("podSelector", {}), peer.labels)


def _on(wanted: dict[str, Any], target: Pod, port: int, protocol: str) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    first = target.ports.get(wanted["port"]) if isinstance(wanted["port"], str) else wanted["port"]
    return first is not None and first <= port <= wanted.get("endPort", first)


def _selects(selector: dict[str, Any], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        _expression(each, labels) for each in selector.get("matchExpressions", ())
    )


def _expression(wanted: dict[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(wanted["key"]), wanted.get("values", ())
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[wanted["operator"]]
