"""The template service: `python -m services.template.main`."""

from __future__ import annotations

from lathe.template.v1.template_service_pb2_grpc import add_TemplateServiceServicer_to_server

from services.common.platform import Need, Platform
from services.common.server import ServiceParts, run
from services.template.handlers import Templates
from services.template.servicer import TemplateServicer

NEEDS = (Need.DATABASE,)


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service, with the built-in templates installed."""
    templates = Templates(platform.database, platform.channel("registry"))
    await templates.install_built_in()
    servicer = TemplateServicer(templates)
    return ServiceParts(
        register=lambda server: add_TemplateServiceServicer_to_server(servicer, server),
        service_names=["lathe.template.v1.TemplateService"],
    )


if __name__ == "__main__":
    run("template", build, NEEDS)
