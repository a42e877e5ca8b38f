"""Provenance of what tasks make: the registry says what the files are, adds it to them, and signs it.

The registry alone has the key. Workers, which run strangers' models, have no part in it: what a task service states
comes from its own tables, and the digests are those that the registry stores.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import metadata

import structlog
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.digest_pb2 import File

from engines.package.provenance import FILE_NAME, Content, ProvenanceError, read_signer, write
from services.platform.errors import invalid_argument
from services.platform.settings import ConfigurationError, Settings
from services.registry.blobs import Blobs
from services.storage import ContentStore

log = structlog.get_logger(__name__)

BUILDER = "lathe:registry"


class Attestation:
    """Adds provenances to versions."""

    def __init__(self, content: ContentStore, blobs: Blobs, settings: Settings) -> None:
        """Read the key of LATHE_SIGNING_KEY_FILE, if there is one.

        Raises:
            ConfigurationError: The file holds no key that can sign.
        """
        self._content = content
        self._blobs = blobs
        self._signer = None
        if settings.signing_key_file is None:
            log.info("provenance.unsigned", fix="Set LATHE_SIGNING_KEY_FILE, so that packages can be verified.")
            return
        try:
            self._signer = read_signer(settings.signing_key_file)
        except ProvenanceError as error:
            raise ConfigurationError(f"LATHE_SIGNING_KEY_FILE: {error}") from error
        log.info("provenance.signed", key_id=self._signer.public_key.keyid)

    async def add(self, version: ModelVersion, predicate_json: str) -> None:
        """Add the provenance to the files of a version; a file of that name, which Lathe did not write, goes.

        Args:
            version: With its files.
            predicate_json: The SLSA provenance, as the service of the task states it.

        Raises:
            LatheError: INVALID_ARGUMENT if it is none.
        """
        files = [file for file in version.files if file.path != FILE_NAME]
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        try:
            predicate = json.loads(predicate_json)
            run = predicate["runDetails"]
            run["builder"] = {"id": BUILDER, "version": {"lathe": metadata.version("lathe")}}
            run["metadata"]["finishedOn"] = now
        except (ValueError, LookupError, TypeError, RecursionError):
            what = "The text is not the predicate of a SLSA provenance v1: a JSON object with runDetails.metadata."
            raise invalid_argument("provenance_json", what) from None
        contents = {file.path: Content(file.digest.sha256, file.digest.size_bytes) for file in files}
        digest = await self._content.put_bytes(write(contents, predicate, self._signer))
        await self._blobs.record([digest])
        del version.files[:]
        version.files.extend(sorted([*files, File(path=FILE_NAME, digest=digest)], key=lambda file: file.path))
