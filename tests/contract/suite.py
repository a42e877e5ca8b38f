"""The services in this process, as clients see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import httpx
from google.protobuf import message_factory
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.converter import main as converter
from services.evaluator import main as evaluator
from services.optimizer import main as optimizer
from services.platform.identity import ACTING_BY_ITSELF, ACTING_KEY
from services.platform.settings import Settings
from services.quantizer import main as quantizer
from services.registry import main as registry
from services.template import main as template
from tests.contract.registry.conftest import digest_of
from tests.contract.registry.dataset_desk import image_folder
from tests.contract.registry.samples import manifest, onnx_model, state_dict
from tests.contract.requests import CHANNEL, METHODS, MODEL, RULED_CHANNEL, SPECS, request_of, right
from tests.in_process import serve_in_process, with_free_addresses

# A stream that waits for more is well.
STREAM_SECONDS = 0.3
IMPORT_SECONDS = 60


class Suite:
    """The services, and one resource of each kind."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], tokens: Mapping[str, str]) -> None:
        self._channels = channels
        self._tokens = tokens
        self.made: dict[str, Any] = {}

    def channel(self, process: str) -> grpc.aio.Channel:
        """Return the channel to a service."""
        return self._channels[process]

    async def call(
        self, method: str, request: Message, user: str = "ann", patience: float = STREAM_SECONDS
    ) -> dict[str, Any]:
        """Call a method; return its answer, or nothing once a stream has begun or has been waited for in vain."""
        call = self.stream(method, request, user)
        if not METHODS[method][2].server_streaming:
            return MessageToDict(await call, preserving_proto_field_name=True)
        try:
            async with asyncio.timeout(patience):
                async for _ in call:
                    break
        except TimeoutError:
            pass
        finally:
            call.cancel()
        return {}

    def stream(self, method: str, request: Message, user: str) -> Any:
        """Begin a call, of whatever kind."""
        process, path, descriptor = METHODS[method]
        channel = self._channels[process]
        make: Any = channel.unary_stream if descriptor.server_streaming else channel.unary_unary
        answer_type = message_factory.GetMessageClass(descriptor.output_type)
        begin = make(path, type(request).SerializeToString, answer_type.FromString)
        return begin(request, metadata=self._metadata(user))

    def _metadata(self, user: str) -> tuple[tuple[str, str], ...]:
        if not self._tokens:
            return (("x-lathe-user", user),)
        if user not in self._tokens:
            return ()
        # For itself; what a service does for a user is held to that user's rights.
        acting = ((ACTING_KEY, ACTING_BY_ITSELF),) if user == "service" else ()
        return (("authorization", f"Bearer {self._tokens[user]}"), *acting)

    async def settled(self, dataset: dict[str, Any]) -> dict[str, Any]:
        """Wait until the import of a dataset goes on no more."""
        async with asyncio.timeout(IMPORT_SECONDS):
            while dataset["state"] == "DATASET_STATE_IMPORTING":
                await asyncio.sleep(0.05)
                dataset = await self.call("GetDataset", request_of("GetDataset", {"name": dataset["name"]}))
        return dataset

    async def prepare(self) -> None:
        """Make one resource of each kind."""
        opened = await self.call("CreateUpload", request_of("CreateUpload", {"size_bytes": 3}))
        self.made = {
            "file": await self._stored("net.pth", state_dict()),
            "images": await self._stored("images.zip", image_folder()),
            "upload": opened["name"],
            "tasks": dict.fromkeys(SPECS, ""),
            "groups": dict.fromkeys(SPECS, ""),
            "export": "",
            "collection": "",
            "import": "",
            "approval": "",
        }
        for method, more in (
            ("CreateProject", {"project_id": "fuzz"}),
            ("CreateModel", {"model_id": "fuzz"}),
            ("CreateArchitecture", {"architecture_id": "fuzz"}),
            ("CreateTemplate", {"template_id": "fuzz"}),
            ("CreateDataset", {"dataset_id": "fuzz"}),
        ):
            made = await self.call(method, request_of(method, right(method, self.made) | more))
        assert (await self.settled(made))["state"] == "DATASET_STATE_READY"
        export = await self.call(
            "CreateDatasetExport", request_of("CreateDatasetExport", right("CreateDatasetExport", self.made))
        )
        self.made["export"] = export["name"]
        collection = right("CreateGarbageCollection", self.made)
        begun = await self.call("CreateGarbageCollection", request_of("CreateGarbageCollection", collection))
        self.made["collection"] = begun["name"]
        version = {"parent": MODEL, "model_version": {"format": "MODEL_FORMAT_PTH", "files": [self.made["file"]]}}
        await self.call("CreateModelVersion", request_of("CreateModelVersion", version))
        await self.call("CreateAlias", request_of("CreateAlias", right("CreateAlias", self.made)))
        await self._release()
        for kind in SPECS:
            method = f"Create{kind}Task"
            task = await self.call(method, request_of(method, right(method, self.made)))
            self.made["tasks"][kind] = task["name"]
            method = f"Create{kind}TaskGroup"
            group = await self.call(method, request_of(method, right(method, self.made)))
            self.made["groups"][kind] = group["name"]
        # Last of all: the version that it makes gets a number of its own when it is done.
        started = right("CreateModelVersionImport", self.made)
        begun = await self.call("CreateModelVersionImport", request_of("CreateModelVersionImport", started))
        self.made["import"] = begun["name"]

    async def _release(self) -> None:
        """Make a package, two channels, and a release in the first: the rules of the other one change."""
        files = [await self._stored("manifest.json", manifest()), await self._stored("main/model.onnx", onnx_model())]
        package = {"repo": "vision", "package_name": "digits", "method": "classify", "version": "1"}
        version = {
            "parent": MODEL,
            "model_version": {"format": "MODEL_FORMAT_PACKAGE", "files": files, "package": package},
        }
        await self.call("CreateModelVersion", request_of("CreateModelVersion", version))
        for name in (CHANNEL, RULED_CHANNEL):
            request = right("CreateChannel", self.made) | {"channel_id": name.rpartition("/")[2]}
            await self.call("CreateChannel", request_of("CreateChannel", request))
        approval = right("ApproveModelVersion", self.made)
        given = await self.call("ApproveModelVersion", request_of("ApproveModelVersion", approval))
        self.made["approval"] = given["name"]
        await self.call(
            "PromoteModelVersion", request_of("PromoteModelVersion", right("PromoteModelVersion", self.made))
        )

    async def _stored(self, path: str, data: bytes) -> dict[str, Any]:
        upload = await self.call("CreateUpload", request_of("CreateUpload", {"size_bytes": len(data)}))
        digest = MessageToDict(digest_of(data), preserving_proto_field_name=True)
        async with httpx.AsyncClient() as http:
            (await http.put(upload["parts"][0]["url"], content=data)).raise_for_status()
        await self.call("FinalizeUpload", request_of("FinalizeUpload", {"name": upload["name"], "digest": digest}))
        return {"path": path, "digest": digest}


@asynccontextmanager
async def open_suite(settings: Settings, tokens: Mapping[str, str] | None = None) -> AsyncIterator[Suite]:
    """Start the services and make one resource of each kind, as `ann`; with `tokens`, users call with theirs."""
    channels: dict[str, grpc.aio.Channel] = {}
    services = (
        ("registry", registry.build, registry.NEEDS),
        ("template", template.build, template.NEEDS),
        ("converter", converter.build, None),
        ("quantizer", quantizer.build, None),
        ("optimizer", optimizer.build, None),
        ("evaluator", evaluator.build, None),
    )
    settings = with_free_addresses(settings, *(name for name, _, _ in services))
    async with AsyncExitStack() as stack:
        for name, build, needs in services:
            given_needs = {} if needs is None else {"needs": needs}
            serving = serve_in_process(name, build, settings, listen=settings.address_of(name), **given_needs)
            address = await stack.enter_async_context(serving)
            channels[name] = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        made = Suite(channels, tokens or {})
        await made.prepare()
        yield made
