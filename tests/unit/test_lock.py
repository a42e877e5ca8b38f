"""The lock file pins everything that the roles need, in versions that they allow."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PROTOS = tomllib.loads((ROOT / "protos/pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {"lathe", "lathe-protos"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def asked(extra: str) -> list[Requirement]:
    """Return what an extra names, with what every role needs."""
    named = PROJECT["optional-dependencies"][extra]
    return [Requirement(text) for text in (*PROJECT["dependencies"], *PROTOS["dependencies"], *named)]


def pulled(requirements: list[Requirement]) -> Iterator[Requirement]:
    """Yield everything that these requirements bring, as far as it is installed here."""
    waiting, seen = list(requirements), set[tuple[str, frozenset[str]]]()
    while waiting:
        requirement = waiting.pop()
        key = (canonical(requirement.name), frozenset(requirement.extras))
        if key in seen or key[0] in OURS:
            continue
        seen.add(key)
        yield requirement
        try:
            needs = [Requirement(text) for text in requires(requirement.name) or []]
        except PackageNotFoundError:
            continue
        waiting += [need for need in needs if applies(need, requirement.extras)]


def applies(need: Requirement, extras: set[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_all_that_an_extra_pulls_is_pinned(extra: str) -> None:
    pinned = pins()
    loose = {str(each) for each in pulled(asked(extra)) if canonical(each.name) not in pinned}
    assert not loose, "append their versions to constraints.txt, or run `make lock`"


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_the_pins_are_allowed(extra: str) -> None:
    pinned = pins()
    for each in asked(extra):
        if canonical(each.name) not in OURS:
            assert each.specifier.contains(pinned[canonical(each.name)], prereleases=True), str(each)
