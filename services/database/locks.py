"""Locks by name, which hold until a transaction ends: for what no row stands for that could be locked."""

from __future__ import annotations

from services.database.pool import Connection

__all__ = ["take_turn"]


async def take_turn(connection: Connection, name: str) -> None:
    """Wait until no other transaction of the database has the lock, and keep it until this one ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name)
