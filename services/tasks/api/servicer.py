"""The one gRPC servicer of all task services, bound to a service by its descriptor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from lathe.type.v1 import view_pb2

from services.resources.batches import deleted, in_batch
from services.tasks.api.groups import Groups
from services.tasks.api.handlers import TaskHandlers
from services.tasks.api.streams import TaskStreams
from services.tasks.kind import TaskKind

# Of a batch; the others of this process need the database, too.
_AT_ONCE = 4

Unary = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
Method = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Any]


class TaskServicer:
    """Serves Create, Get, List, Update, Cancel, Retry, Resubmit, Delete, their batches, Watch, Stream…Logs; and groups.

    `more` serves the methods of this service alone, by name: coroutine functions or generators of request and context.
    """

    def __init__(
        self,
        kind: TaskKind,
        handlers: TaskHandlers,
        streams: TaskStreams,
        groups: Groups,
        more: Mapping[str, Method] | None = None,
    ) -> None:
        self._handlers = handlers
        self._streams = streams
        self._groups = groups
        pool = descriptor_pool.Default()
        self._service = pool.FindServiceByName(kind.service)
        noun = kind.task_type.DESCRIPTOR.name
        self._methods: dict[str, Method] = {
            f"Create{noun}": self._create,
            f"Get{noun}": self._get,
            f"BatchGet{noun}s": self._batch_get,
            f"List{noun}s": self._list,
            f"Update{noun}": self._update,
            f"Cancel{noun}": self._cancel,
            f"BatchCancel{noun}s": self._batch_cancel,
            f"Retry{noun}": self._retry,
            f"Resubmit{noun}": self._resubmit,
            f"Delete{noun}": self._delete,
            f"BatchDelete{noun}s": self._batch_delete,
            f"Watch{noun}": self._watch,
            f"Stream{noun}Logs": self._stream_logs,
            f"Create{noun}Group": self._create_group,
            f"Get{noun}Group": self._get_group,
            f"List{noun}Groups": self._list_groups,
            f"Watch{noun}Group": self._watch_group,
            f"Cancel{noun}Group": self._cancel_group,
            f"Delete{noun}Group": self._delete_group,
            **(more or {}),
        }
        names = {method.name for method in self._service.methods}
        if names != self._methods.keys():
            raise ValueError(f"{kind.service}: served and declared methods differ: {names ^ self._methods.keys()}")
        self._list_response = self._output(f"List{noun}s")
        self._get_response = self._output(f"BatchGet{noun}s")
        self._cancel_response = self._output(f"BatchCancel{noun}s")
        self._delete_response = self._output(f"BatchDelete{noun}s")
        self._groups_response = self._output(f"List{noun}Groups")

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        handlers = {method.name: self._handler(method) for method in self._service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self._service.full_name, handlers),))

    def _output(self, method: str) -> Any:
        return message_factory.GetMessageClass(self._service.methods_by_name[method].output_type)

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        make: Any = (
            grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        )
        handler: grpc.RpcMethodHandler[Any, Any] = make(
            self._methods[method.name],
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
        return handler

    async def _create(self, request: Any, _context: Any) -> Any:
        return await self._handlers.create(request)

    async def _get(self, request: Any, _context: Any) -> Any:
        return await self._handlers.get(request.name)

    async def _batch_get(self, request: Any, _context: Any) -> Any:
        full = request.view == view_pb2.VIEW_FULL
        return self._get_response(tasks=await self._handlers.get_many(request.names, full=full))

    async def _list(self, request: Any, _context: Any) -> Any:
        answer = self._list_response()
        answer.next_page_token = await self._handlers.list_page(request, answer.tasks)
        return answer

    async def _update(self, request: Any, _context: Any) -> Any:
        return await self._handlers.update(request)

    async def _cancel(self, request: Any, _context: Any) -> Any:
        return await self._handlers.cancel(request.name)

    async def _batch_cancel(self, request: Any, _context: Any) -> Any:
        cancelled, errors = await in_batch(request.names, self._handlers.cancel, at_once=_AT_ONCE)
        return self._cancel_response(cancelled=cancelled, errors=errors)

    async def _retry(self, request: Any, _context: Any) -> Any:
        return await self._handlers.retry(request)

    async def _resubmit(self, request: Any, _context: Any) -> Any:
        return await self._handlers.resubmit(request)

    async def _delete(self, request: Any, _context: Any) -> Any:
        deletion = self._handlers.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)

    async def _batch_delete(self, request: Any, _context: Any) -> Any:
        gone, errors = await in_batch(
            request.names, self._handlers.delete, allow_missing=request.allow_missing, at_once=_AT_ONCE
        )
        return self._delete_response(deleted=gone, errors=errors)

    async def _watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        async for task in self._streams.watch(request):
            yield task

    async def _stream_logs(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        async for line in self._streams.logs(request):
            yield line

    async def _create_group(self, request: Any, _context: Any) -> Any:
        return await self._groups.create(request)

    async def _get_group(self, request: Any, _context: Any) -> Any:
        return await self._groups.get(request.name)

    async def _list_groups(self, request: Any, _context: Any) -> Any:
        answer = self._groups_response()
        answer.next_page_token = await self._groups.page(request, answer.groups)
        return answer

    async def _watch_group(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        async for group in self._groups.watch(request.name):
            yield group

    async def _cancel_group(self, request: Any, _context: Any) -> Any:
        return await self._groups.cancel(request.name)

    async def _delete_group(self, request: Any, _context: Any) -> Any:
        return await deleted(self._groups.delete(request.name, request.etag), allow_missing=request.allow_missing)
