"""Finds the place of each weight in a network: training adds prefixes and wrappers to the keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

_WRAPPERS = frozenset({"_checkpoint_wrapped_module", "_forward_module", "_fsdp_wrapped_module", "_orig_mod"})
"""What activation checkpointing, Lightning's Fabric, FSDP and torch.compile put between a module and its name."""
_PARALLEL = "module"
"""What DataParallel and DistributedDataParallel put there; users' networks can have such a name as well."""
_FILLED_IN = "num_batches_tracked"
"""Last part of keys that torch fills in if they are missing."""


def place(given: Collection[str], expected: Collection[str]) -> dict[str, str]:
    """Return the network's key for each key of a state dict; keys without a place stay as they are, or near to it.

    Wrappers are left out everywhere, and prefixes that all keys of one side share, whatever their names, if
    more keys agree without them. No two keys get one place.

    Args:
        given: Keys of the state dict.
        expected: Keys of the network.
    """
    most, placed = len(set(given) & set(expected)), {key: key for key in given}
    if most == len(given):
        return placed
    for wrappers in (_WRAPPERS, _WRAPPERS | {_PARALLEL}):
        for theirs, ours, prefix in _alignments(_plain(given, wrappers), _plain(expected, wrappers)):
            agreeing = len(theirs.keys() & ours.keys())
            places = {key: ours.get(plain, prefix + plain) for plain, key in theirs.items()}
            if agreeing > most and len(set(places.values())) == len(places):
                most, placed = agreeing, places
    return placed


def fits(given: Collection[str], expected: Collection[str]) -> bool:
    """Return whether the keys of a state dict are those of a network, but for prefixes and what torch fills in."""
    placed, wanted = set(place(given, expected).values()), set(expected)
    return placed <= wanted and all(key.endswith(_FILLED_IN) for key in wanted - placed)


def _plain(keys: Collection[str], wrappers: Collection[str]) -> dict[str, str]:
    """Return the keys by their forms without wrappers; by themselves if two would become one."""
    plain = {".".join(part for part in key.split(".") if part not in wrappers): key for key in keys}
    return plain if len(plain) == len(keys) else {key: key for key in keys}


def _alignments(
    theirs: Mapping[str, str], ours: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, str], Mapping[str, str], str]]:
    """Yield both sides without the prefixes that all keys of one of them share, and the prefix that ours lost."""
    yield theirs, ours, ""
    for prefix in _shared_prefixes(theirs):
        yield {key.removeprefix(prefix): name for key, name in theirs.items()}, ours, ""
    for prefix in _shared_prefixes(ours):
        yield theirs, {key.removeprefix(prefix): name for key, name in ours.items()}, prefix


def _shared_prefixes(keys: Collection[str]) -> Iterator[str]:
    """Yield `a.`, `a.b.`… as long as all keys begin so."""
    parts = [key.split(".") for key in keys]
    for depth in range(1, min(map(len, parts), default=0)):
        if len({tuple(each[:depth]) for each in parts}) > 1:
            return
        yield ".".join(parts[0][:depth]) + "."
