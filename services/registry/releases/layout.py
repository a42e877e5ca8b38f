"""The files of a release in the model repository: the package's under Triton's names, labels, configurations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format, text_format
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_PACKAGE, ModelFormat, ModelVersion
from lathe.type.v1.digest_pb2 import File
from pydantic import ValidationError

from engines.failures import EngineFailure, first_objection
from engines.package.manifest import Manifest
from engines.package.triton import CONFIG_NAME, TritonModel, lay_out
from services.platform.errors import LatheError, failed_precondition
from services.platform.words import word
from services.registry.packages import MANIFEST
from services.storage import ContentStore

if TYPE_CHECKING:
    from google.protobuf.message import Message


async def read_manifest(content: ContentStore, version: ModelVersion) -> Manifest:
    """Return the manifest of a package version.

    Raises:
        LatheError: FAILED_PRECONDITION if it is not a package (NOT_A_PACKAGE), or this release of Lathe cannot read its
            manifest (INVALID_PACKAGE).
    """
    if version.format != MODEL_FORMAT_PACKAGE:
        raise failed_precondition(
            "NOT_A_PACKAGE",
            f"'{version.name}' is {word(ModelFormat, version.format)}, and only a PACKAGE can serve. Convert it first.",
            subject=version.name,
        )
    file = next(file for file in version.files if file.path == MANIFEST)
    try:
        return Manifest.model_validate_json(await content.read(file.digest))
    except ValidationError as error:
        where, what = first_objection(error, "its beginning")
        raise failed_precondition(
            "INVALID_PACKAGE", f"{MANIFEST} of '{version.name}' is wrong at {where}: {what}.", version.name
        ) from error


async def lay_out_release(
    content: ContentStore, version: ModelVersion, manifest: Manifest, model: str, number: int
) -> list[File]:
    """Return the files of a release by their paths in the repository, each stored; configurations come last.

    Args:
        content: Store for labels and configurations, by digest like all files.
        version: The package.
        manifest: Its manifest.
        model: Name of the Triton model.
        number: Number of the release.

    Raises:
        LatheError: FAILED_PRECONDITION, reason NOT_SERVABLE, if Triton cannot serve the package.
    """
    try:
        models = lay_out(manifest, model, number, version.name)
        digests = {file.path: file.digest for file in version.files}
        for each in models:
            for _, source in each.files:
                if source not in digests:
                    raise _not_servable(version, f"its manifest names the file '{source}', which it does not have")
        # tritonclient is slow to import: a thread keeps it from delaying other calls.
        configs = [await asyncio.to_thread(config_text, each.config) for each in models]
    except EngineFailure as failure:
        raise _not_servable(version, f"{failure.message} {failure.suggested_fix}".rstrip(" .")) from failure
    files = [File(path=path, digest=digests[source]) for each in models for path, source in each.files]
    files += [File(path=path, digest=await content.put_bytes(text.encode())) for path, text in _labels(models)]
    for each, text in zip(models, configs, strict=True):
        files.append(File(path=each.config_path, digest=await content.put_bytes(text.encode())))
    return files


def is_config(path: str) -> bool:
    """Return whether a file of the repository is the configuration of a model."""
    return path.rpartition("/")[2] == CONFIG_NAME


def config_text(config: dict[str, Any]) -> str:
    """Return a `config.pbtxt`, made by Triton's own message and read again.

    Raises:
        google.protobuf.json_format.ParseError: for a field that Triton's message does not have.
    """
    from tritonclient.grpc import model_config_pb2

    message: Message = json_format.ParseDict(config, model_config_pb2.ModelConfig())
    text = text_format.MessageToString(message)
    again = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert again == message, "protobuf reads its own text"
    return text


def _labels(models: list[TritonModel]) -> list[tuple[str, str]]:
    return [entry for each in models for entry in each.texts]


def _not_servable(version: ModelVersion, why: str) -> LatheError:
    return failed_precondition("NOT_SERVABLE", f"'{version.name}' cannot be released: {why}.", subject=version.name)
