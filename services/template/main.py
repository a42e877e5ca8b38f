"""The template service: `python -m services.template.main`."""

from __future__ import annotations

import asyncio

from lathe.template.v1.template_service_pb2_grpc import add_TemplateServiceServicer_to_server

from services.process.composition import Need, Platform
from services.process.server import ServiceParts, run
from services.resources.idempotency import forget_requests
from services.template.handlers import Templates
from services.template.servicer import TemplateServicer

NEEDS = (Need.DATABASE,)
HOUSEKEEPING_SECONDS = 3600.0


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service, with the built-in templates installed."""
    templates = Templates(platform.database, platform.channel("registry"))
    await templates.install_built_in()
    servicer = TemplateServicer(templates)

    async def keep_house() -> None:
        while True:
            await forget_requests(platform.database)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    return ServiceParts(
        register=lambda server: add_TemplateServiceServicer_to_server(servicer, server),
        service_names=["lathe.template.v1.TemplateService"],
        background=[keep_house],
    )


if __name__ == "__main__":
    run("template", build, NEEDS)
