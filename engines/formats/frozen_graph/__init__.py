"""Frozen graphs of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.files import ModelFiles
from engines.formats.protobuf_marks import is_frozen_graph
from engines.formats.protocol import Format, ReadJob
from engines.formats.tensorflow import MODULES, PACKAGES

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component
    from engines.tensors.signature import TensorSpec


class FrozenGraph(Format):
    """A GraphDef whose variables were made constants, binary or text."""

    name = "FROZEN_GRAPH"
    words = "a TensorFlow frozen graph"
    advice = "Upload the .pb file of a GraphDef whose variables were made constants."
    template_note = "Any graph, from its placeholders to the nodes that nobody consumes."
    forms = frozenset({"graph", "function"})
    packages = PACKAGES
    modules = MODULES
    open_axes = True

    def matches(self, files: ModelFiles) -> bool:
        return any(is_frozen_graph(path) for path in files.models if path.name != "saved_model.pb")

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.frozen_graph.description import describe_frozen_graph

        return [describe_frozen_graph(folder / file, file)]

    def graph_inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Sequence[TensorSpec]:
        from engines.formats.frozen_graph.description import placeholders

        return placeholders(self.located(request, component, workdir), component)

    def read(self, job: ReadJob) -> Source:
        from engines.formats.frozen_graph.reader import read_frozen_graph

        return read_frozen_graph(self.located(job.request, job.component, job.workdir), job)
