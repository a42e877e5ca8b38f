"""Reads a child's pipes in asyncio, with bounded buffers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from engines.sandbox import frames
from engines.sandbox.loglines import LineSplitter

_CHUNK = 64 * 1024
_PARSE_ELSEWHERE = 1 << 20


class Pipe:
    """The parent's end of a pipe that a child writes to."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        """Use `open` instead."""
        self._reader = reader
        self._transport = transport

    @classmethod
    async def open(cls, descriptor: int) -> Pipe:
        """Take over a descriptor; `close` closes it."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", buffering=0))
        return cls(reader, transport)

    def close(self) -> None:
        """Close the descriptor; a reader that waits sees the end of the stream."""
        self._transport.close()
        self._reader.feed_eof()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield each message until the stream ends.

        Raises:
            FrameError: The data are not a message.
        """
        while True:
            try:
                header = await self._reader.readexactly(frames.HEADER.size)
                payload = await self._reader.readexactly(frames.payload_length(header))
            except asyncio.IncompleteReadError:
                return
            decode_here = len(payload) < _PARSE_ELSEWHERE
            yield frames.decode(payload) if decode_here else await asyncio.to_thread(frames.decode, payload)

    async def lines(self) -> AsyncIterator[str]:
        """Yield each line of `LineSplitter` until the stream ends."""
        splitter = LineSplitter()
        while data := await self._reader.read(_CHUNK):
            for line in splitter.feed(data):
                yield line
        for line in splitter.close():
            yield line

    async def rest(self, bound: int) -> bytes:
        """Return the data until the stream ends, at most `bound` bytes."""
        kept = b""
        while data := await self._reader.read(_CHUNK):
            kept = (kept + data)[:bound]
        return kept


async def write_all(descriptor: int, data: bytes) -> None:
    """Write to a child and close the descriptor; a child that is gone is reported elsewhere."""

    def write() -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except BrokenPipeError:
            return
        finally:
            os.close(descriptor)

    await asyncio.to_thread(write)
