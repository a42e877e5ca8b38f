"""Puts the form that a search chose into the package."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from engines.formats.preparation import Prepared
from engines.package.content import PackagedComponent
from engines.search.entry import Entry
from engines.search.truth import Truth
from engines.tensors.signature import Signature
from engines.timing.paired import ProfileReport


def package_form(
    prepared: Prepared, truth: Truth, entry: Entry, profile: ProfileReport | None, package: Path
) -> PackagedComponent:
    """Copy the files of a built form into a folder of the package, and return the package's entry for it."""
    made, parity = entry.made, entry.parity
    assert made is not None and parity is not None  # noqa: PT018 - what is chosen was built and compared
    target, form = package / prepared.component.name, made.form
    for name in form.files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(form.directory / name, target / name)
    return PackagedComponent(
        prepared.component,
        dataclasses.replace(form, directory=target),
        Signature(form.inputs or prepared.signature.inputs, truth.outputs()),
        prepared.ranges,
        parity,
        profile,
        prepared.source.companions,
        tuple(dict.fromkeys((*prepared.warnings, *form.warnings))),
    )
