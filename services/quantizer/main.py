"""The quantizer service: `python -m services.quantizer.main`."""

from __future__ import annotations

from engines.spec.devices import load_catalog
from services.process.composition import Platform
from services.process.server import ServiceParts, run
from services.quantizer.kind import QuantizationKind
from services.tasks.api.scaler import Scaler
from services.tasks.api.service import task_service


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service: the task engine with quantizations."""
    kind = QuantizationKind(platform.channel("registry"), platform.channel("template"), platform.cas)
    scaler = Scaler("quantizer", load_catalog().devices)
    return (await task_service(platform, kind, scaler)).beside(scaler.parts)


if __name__ == "__main__":
    run("quantizer", build)
