"""Whether a worker is at work: it announces itself in the WORKERS bucket, whose key begins with its kind."""

from __future__ import annotations

import asyncio


def newest_announcement(nats_url: str, kind: str) -> int:
    """Return the sequence number of the newest announcement by a worker of this kind; 0 if there is none.

    Raises:
        OSError: NATS does not answer.
    """
    return asyncio.run(_newest(nats_url, kind))


async def _newest(nats_url: str, kind: str) -> int:
    import nats
    from nats.js.errors import NotFoundError

    connection = await nats.connect(nats_url, connect_timeout=2, allow_reconnect=False)
    try:
        message = await connection.jetstream().get_last_msg("KV_WORKERS", f"$KV.WORKERS.{kind}.>")
        return message.seq or 0
    except NotFoundError:
        return 0
    finally:
        await connection.close()
