"""Packages of Lathe: detected like any format; `engines.package` writes and describes them."""

from __future__ import annotations

from engines.formats.files import ModelFiles
from engines.formats.protocol import Format


class Package(Format):
    """A package that a task of Lathe produced."""

    name = "PACKAGE"
    words = "a package of Lathe"
    advice = "Upload the whole folder that a task of Lathe produced, its manifest.json with it."
    forms = frozenset()
    main_files = ("manifest.json",)
    convertible = False

    def matches(self, files: ModelFiles) -> bool:
        return files.keys_of("manifest.json") >= {"schema_version", "components"}
