"""Names that the registry composes and takes apart."""

from __future__ import annotations

from lathe.registry.v1.model_service_pb2 import (
    LINEAGE_KIND_ARCHITECTURE,
    LINEAGE_KIND_MODEL_VERSION,
    LINEAGE_KIND_TASK,
    LINEAGE_KIND_TEMPLATE,
    LineageKind,
    PackageInfo,
)

from services.platform.errors import invalid_argument, not_found

_MAX_DISPLAY_NAME = 100
_KINDS = {
    "models": LINEAGE_KIND_MODEL_VERSION,
    "architectures": LINEAGE_KIND_ARCHITECTURE,
    "templates": LINEAGE_KIND_TEMPLATE,
}


def package_file_name(package: PackageInfo) -> str:
    """Return the name of a package's file: `{repo}_{package_name}_{method}_{version}.tar`."""
    return f"{package.repo}_{package.package_name}_{package.method}_{package.version}.tar"


def version_name(model: str, number: int) -> str:
    """Return the resource name of version `number` of `model` (`models/{model}`)."""
    return f"{model}/versions/{number}"


def model_of(version: str) -> str:
    """Return `models/{model}` of `models/{model}/versions/{number}`."""
    return version.rsplit("/versions/", 1)[0]


def require_version_of(model: str, version: str, field: str, whose: str) -> None:
    """Raise LatheError unless a version is of a model, to which `whose` (`channel`) belongs.

    Raises:
        LatheError: NOT_FOUND for an alias that stands for no version; else INVALID_ARGUMENT of `field`.
    """
    if version != alias_model(version):
        raise not_found("alias", version)
    if model_of(version) != model:
        raise invalid_argument(field, f"'{version}' is not a version of {model}, to which the {whose} belongs.")


def node_kind(name: str) -> LineageKind.ValueType:
    """Return what a resource name in a lineage stands for."""
    return _KINDS.get(name.split("/", 1)[0], LINEAGE_KIND_TASK)


def default_name(model_display_name: str, number: str) -> str:
    """Return the default display name of a version: the model's and the number, at most 100 characters."""
    return f"{model_display_name[: _MAX_DISPLAY_NAME - len(number) - 1]} {number}"


def channel_model(channel: str) -> str:
    """Return `models/{model}` of `models/{model}/channels/{channel}`."""
    return channel.rsplit("/channels/", 1)[0]


def alias_model(alias: str) -> str:
    """Return `models/{model}` of `models/{model}/aliases/{alias}`."""
    return alias.rsplit("/aliases/", 1)[0]


def channel_of(release: str) -> str:
    """Return `models/{model}/channels/{channel}` of `…/releases/{number}`."""
    return release.rsplit("/releases/", 1)[0]


def release_name(channel: str, number: int) -> str:
    """Return the resource name of release `number` of a channel."""
    return f"{channel}/releases/{number}"


def release_number(release: str) -> int:
    """Return the number of a release by its name; 0 for the empty name."""
    return int(last_part(release)) if release else 0


def last_part(name: str) -> str:
    """Return the id at the end of a resource name."""
    return name.rsplit("/", 1)[-1]
