"""A channel over TLS that is opened anew when the certificates change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from services.platform.tls import Certificates, Material, for_client

__all__ = ["RenewedChannel"]

# For streams of the old channel. Calls end within their deadlines.
_GRACE_SECONDS = 3600.0


class RenewedChannel(grpc.aio.Channel):
    """A channel to a sibling; what is made from it (stubs) outlives the certificates that it was made with.

    Args:
        address: host:port.
        certificates: What the process shows and trusts.
        options: Of the channel.
        interceptors: Of its calls.
    """

    def __init__(
        self,
        address: str,
        certificates: Certificates,
        options: Sequence[tuple[str, Any]],
        interceptors: Sequence[grpc.aio.ClientInterceptor],
    ) -> None:
        self._address = address
        self._certificates = certificates
        self._options, self._interceptors = options, interceptors
        self._material: Material | None = None
        self._channel: grpc.aio.Channel | None = None
        self._made: dict[tuple[str, str], Any] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def _present(self) -> grpc.aio.Channel:
        material = self._certificates.current()
        if self._channel is None or material is not self._material:
            if self._channel is not None:
                closing = asyncio.ensure_future(self._channel.close(_GRACE_SECONDS))
                self._leaving.add(closing)
                closing.add_done_callback(self._leaving.discard)
            self._made.clear()
            self._material = material
            self._channel = grpc.aio.secure_channel(
                self._address, for_client(material), options=self._options, interceptors=self._interceptors
            )
        return self._channel

    def _calling(self, kind: str, method: str, *args: Any, **named: Any) -> Callable[..., Any]:
        def call(*request: Any, **how: Any) -> Any:
            channel = self._present()
            made = self._made.get((kind, method))
            if made is None:
                made = self._made[kind, method] = getattr(channel, kind)(method, *args, **named)
            return made(*request, **how)

        return call

    def unary_unary(self, method: str, *args: Any, **named: Any) -> Any:
        """Return what calls a method."""
        return self._calling("unary_unary", method, *args, **named)

    def unary_stream(self, method: str, *args: Any, **named: Any) -> Any:
        """Return what calls a method that answers with a stream."""
        return self._calling("unary_stream", method, *args, **named)

    def stream_unary(self, method: str, *args: Any, **named: Any) -> Any:
        """Return what calls a method that takes a stream."""
        return self._calling("stream_unary", method, *args, **named)

    def stream_stream(self, method: str, *args: Any, **named: Any) -> Any:
        """Return what calls a method that takes and answers with streams."""
        return self._calling("stream_stream", method, *args, **named)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the connection."""
        return self._present().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the connection has another state."""
        await self._present().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until it is connected."""
        await self._present().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """End the calls, and disconnect."""
        for each in self._leaving:
            each.cancel()
        if self._channel is not None:
            await self._channel.close(grace)

    async def __aenter__(self) -> RenewedChannel:
        """Return the channel itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()
