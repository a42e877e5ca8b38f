"""Resource names as people type them: `digits/3` for `models/digits/versions/3`."""

from __future__ import annotations

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError


def model_name(text: str) -> str:
    """Return `models/{model}` for `digits` or `models/digits`."""
    return _prefixed(text, "models")


def version_name(text: str) -> str:
    """Return the full name of a version for `digits/3`, of an alias for `digits@best`, or the name itself.

    Raises:
        CliError: The text names no version.
    """
    if "@" in text or "/aliases/" in text:
        return alias_name(text)
    return _below(text, "models", "versions", "no model version; write MODEL/NUMBER or MODEL@ALIAS, such as digits/3")


def alias_name(text: str) -> str:
    """Return `models/{model}/aliases/{alias}` for `digits@best`, or for the name itself.

    Raises:
        CliError: The text names no alias.
    """
    return _below(text.replace("@", "/"), "models", "aliases", "no alias; write MODEL@ALIAS, such as digits@best")


def model_of(name: str) -> str:
    """Return `models/{model}` of the name of anything that belongs to a model."""
    return "/".join(name.split("/")[:2])


def is_version(text: str) -> bool:
    """Return whether a text names a version rather than a model."""
    return "/" in text.removeprefix("models/") or "@" in text


def channel_name(text: str) -> str:
    """Return `models/{model}/channels/{channel}` for `digits/production`, or for the name itself.

    Raises:
        CliError: The text names no channel.
    """
    return _below(text, "models", "channels", "no channel; write MODEL/CHANNEL, such as digits/production")


def architecture_name(text: str) -> str:
    """Return `architectures/{architecture}` for `digitscnn`."""
    return _prefixed(text, "architectures")


def project_name(text: str) -> str:
    """Return `projects/{project}` for `vision`."""
    return _prefixed(text, "projects")


def template_name(text: str) -> str:
    """Return `templates/{template}` for `digits`."""
    return _prefixed(text, "templates")


def dataset_name(text: str) -> str:
    """Return `datasets/{dataset}` for `digits`."""
    return _prefixed(text, "datasets")


def item_name(text: str) -> str:
    """Return `datasets/{dataset}/items/{number}` for `digits/7`, or for the name itself.

    Raises:
        CliError: The text names no item.
    """
    dataset, slash, number = text.removeprefix("datasets/").replace("/items/", "/").partition("/")
    if not slash or not number.isdigit():
        raise CliError(f"{text!r} is not an item; write DATASET/NUMBER, such as digits/7.", ExitCode.USAGE)
    return f"datasets/{dataset}/items/{number}"


def parse_labels(pairs: list[str]) -> dict[str, str]:
    """Return the labels of `key=value` texts; raises as `parse_pairs` does."""
    return parse_pairs(pairs, "--label")


def parse_pairs(pairs: list[str], option: str) -> dict[str, str]:
    """Return the values of an option that takes `key=value` texts.

    Raises:
        CliError: A text has no `=`.
    """
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CliError(f"{option} {pair!r} must be key=value.", ExitCode.USAGE)
        values[key] = value
    return values


def _below(text: str, outer: str, inner: str, wanted: str) -> str:
    parts = text.removeprefix(f"{outer}/").replace(f"/{inner}/", "/").split("/")
    if len(parts) != 2 or not all(parts):
        raise CliError(f"{text!r} names {wanted}.", ExitCode.USAGE)
    return f"{outer}/{parts[0]}/{inner}/{parts[1]}"


def _prefixed(text: str, collection: str) -> str:
    return text if text.startswith(f"{collection}/") else f"{collection}/{text}"
