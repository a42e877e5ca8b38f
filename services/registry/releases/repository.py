"""The model repositories in the bucket: one folder per channel, from which Triton loads.

    triton/{model}/{channel}/{triton model}/config.pbtxt        written last: the switch
    triton/{model}/{channel}/{triton model}/{release number}/…  copied inside the store, never through this process

A copy appears whole or not at all (`services.storage.folders`), and a configuration names the one version that
it serves, so that Triton
never sees half a release: until the configuration is written, it serves what it served before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lathe.type.v1.digest_pb2 import File

from services.platform.settings import Settings
from services.registry.releases.layout import is_config
from services.storage.folders import Folders


class ModelRepositories:
    """Copies, switches and sweeps. A channel is named `models/{model}/channels/{channel}`."""

    def __init__(self, settings: Settings) -> None:
        self._folders = Folders(settings)

    def uri(self, channel: str) -> str:
        """Return `s3://{bucket}/triton/{model}/{channel}`: the address of Triton's model repository."""
        return self._folders.uri(_folder(channel))

    async def copy(self, channel: str, files: Iterable[File], *, missing_only: bool) -> None:
        """Copy files from their digests to their places, configurations left out.

        Args:
            channel: Whose repository.
            files: Paths in the repository, with digests of stored bytes.
            missing_only: Skip the files that are there in the right size.
        """
        copied = [file for file in files if not is_config(file.path)]
        await self._folders.copy(_folder(channel), copied, missing_only=missing_only)

    async def switch(self, channel: str, files: Iterable[File]) -> None:
        """Write the configurations among the files: from now on Triton serves what they name."""
        configs = [file for file in files if is_config(file.path)]
        await self._folders.copy(_folder(channel), configs, missing_only=False)

    async def sweep(self, channel: str, keep: Collection[str]) -> None:
        """Remove everything but the paths to keep; configurations first, so that no model loses its files before."""
        await self._folders.sweep(_folder(channel), keep, order=lambda path: (not is_config(path), path))


def _folder(channel: str) -> str:
    _, model, _, name = channel.split("/")
    return f"triton/{model}/{name}"
