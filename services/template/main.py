"""The template service: `python -m services.template.main`."""

from __future__ import annotations

import asyncio

import grpc
from lathe.internal.v1.resolution_service_pb2_grpc import add_ResolutionServiceServicer_to_server
from lathe.template.v1.template_service_pb2_grpc import add_TemplateServiceServicer_to_server

from services.process.composition import Need, Platform
from services.process.server import ServiceParts, run
from services.resources.idempotency import forget_requests
from services.template.handlers import Templates
from services.template.servicer import ResolutionServicer, TemplateServicer

NEEDS = (Need.DATABASE,)
HOUSEKEEPING_SECONDS = 3600.0


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service, with the built-in templates installed."""
    templates = Templates(platform.database, platform.channel("registry"))
    await templates.install_built_in()

    def register(server: grpc.aio.Server) -> None:
        add_TemplateServiceServicer_to_server(TemplateServicer(templates), server)
        add_ResolutionServiceServicer_to_server(ResolutionServicer(templates), server)

    async def keep_house() -> None:
        while True:
            await forget_requests(platform.database)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    return ServiceParts(
        register=register,
        service_names=["lathe.template.v1.TemplateService"],
        background=[keep_house],
    )


if __name__ == "__main__":
    run("template", build, NEEDS)
