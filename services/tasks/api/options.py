"""The clocks and limits of the task engine on the API side, in seconds. Tests make them short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.bus.topology import Timing
from services.platform.quotas import CachedQuotas
from services.platform.settings import Settings


@dataclass(frozen=True)
class TaskOptions:
    """How a task service behaves.

    Attributes:
        timing: Of the bus; workers use the same.
        max_attempts: Tries that a task has.
        relay_poll: Between looks into the outbox for what nobody published.
        sweep_every: Between sweeps.
        republish_after: A PENDING task of this age whose message is gone is sent again.
        lost_after: A RUNNING task of a dead worker is given up so long after its last news.
        stalled_after: A task in a worker's hands whose message is gone is given up so long after its last news.
        cancel_after: A CANCELLING task ends so long after its last news, with or without an answer of its worker.
        verification_wait: What was made elsewhere waits so long for a worker on its device, if none lives at its end.
        verifier_lost_after: What waits for a worker on its device is recorded as it is, once all are gone for so long.
        weights: Of owners' shares of the workers; 1 of those who are not named.
        quotas: How much each project may use.
        retention_days: A terminal task is deleted so long after it was last changed; 0 is never.
        watch_poll: A watch looks at the table this often, should an announcement be lost.
    """

    timing: Timing = field(default_factory=Timing)
    max_attempts: int = 3
    relay_poll: float = 1.0
    sweep_every: float = 5.0
    republish_after: float = 20.0
    lost_after: float = 5.0
    stalled_after: float = 120.0
    cancel_after: float = 30.0
    verification_wait: float = 0.0
    verifier_lost_after: float = 60.0
    watch_poll: float = 5.0
    retention_days: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    quotas: CachedQuotas = field(default_factory=CachedQuotas)

    @classmethod
    def of(cls, settings: Settings) -> TaskOptions:
        """Return the options that the settings ask for."""
        timing = Timing(settings.ack_wait_seconds, settings.heartbeat_seconds, max_deliver=settings.max_attempts)
        wait = settings.verification_wait_seconds
        return cls(
            timing=timing,
            max_attempts=settings.max_attempts,
            verification_wait=wait,
            weights=settings.weights_of_owners,
            retention_days=settings.task_retention_days,
        )
