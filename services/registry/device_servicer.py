"""DeviceService over gRPC."""

from __future__ import annotations

import grpc
from lathe.registry.v1 import device_service_pb2 as pb
from lathe.registry.v1.device_service_pb2_grpc import DeviceServiceServicer

from services.registry.devices import Devices

Context = grpc.aio.ServicerContext[object, object]


class DeviceServicer(DeviceServiceServicer):
    """Answers the calls of DeviceService."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def GetDevice(self, request: pb.GetDeviceRequest, context: Context) -> pb.Device:
        return await self._devices.get(request.name)

    async def ListDevices(self, request: pb.ListDevicesRequest, context: Context) -> pb.ListDevicesResponse:
        devices, token = await self._devices.page(request)
        return pb.ListDevicesResponse(devices=devices, next_page_token=token)
