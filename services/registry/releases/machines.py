"""Whether packages can run on machines."""

from __future__ import annotations

from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.registry.v1.release_service_pb2 import CheckCompatibilityRequest, Compatibility

from engines.failures import EngineFailure
from engines.package.compatibility import Machine, judge
from engines.spec.devices import load_catalog
from services.database.pool import Database
from services.platform.errors import engine_rules, invalid_argument
from services.registry.kinds import VERSIONS
from services.registry.releases.layout import read_manifest
from services.resources.store import ResourceStore
from services.storage import ContentStore


class Machines:
    """Checks packages against machines."""

    def __init__(self, database: Database, content: ContentStore) -> None:
        self._content = content
        self._versions: ResourceStore[ModelVersion] = ResourceStore(database, VERSIONS)

    async def check(self, request: CheckCompatibilityRequest) -> Compatibility:
        """Return whether a package can run on a machine, and why not.

        Raises:
            LatheError: NOT_FOUND for the version; FAILED_PRECONDITION if it is not a package (NOT_A_PACKAGE);
                INVALID_ARGUMENT for a device that is not in the catalog or a version that cannot be read.
        """
        asked, catalog = request.machine, load_catalog()
        if asked.device:
            with engine_rules("machine"):
                catalog.device(asked.device)
        manifest = await read_manifest(self._content, await self._versions.get(request.model_version))
        versions = dict(asked.runtime_versions)
        machine = Machine(asked.device, asked.runtime_version, asked.driver_version, tuple(asked.cpu_flags), versions)
        try:
            found = judge(manifest, machine, catalog)
        except EngineFailure as failure:
            field = "runtime_versions" if versions or len(manifest.forms) > 1 else "runtime_version"
            raise invalid_argument(
                f"machine.{field}", f"{failure.message} {failure.suggested_fix}".strip()
            ) from failure
        return Compatibility(compatible=found.compatible, reasons=found.reasons, checks=found.checks)
