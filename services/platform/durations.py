"""Durations of the API as the seconds that engines, timers and messages between services count in."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

__all__ = ["whole_seconds"]


def whole_seconds(duration: Duration) -> int:
    """Return a duration in seconds, rounded up; 0 if it is not set."""
    return duration.seconds + (duration.nanos > 0)
