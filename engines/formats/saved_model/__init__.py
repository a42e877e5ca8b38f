"""SavedModels of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.formats.files import ModelFiles
from engines.formats.protobuf_marks import is_saved_model
from engines.formats.protocol import Format, ReadJob
from engines.formats.tensorflow import MODULES, PACKAGES

if TYPE_CHECKING:
    from engines.formats.source import Source
    from engines.spec.request import ConversionRequest
    from engines.spec.template import Component
    from engines.tensors.signature import TensorSpec


class SavedModel(Format):
    """A folder of `tf.saved_model.save`; a component is one of its signatures."""

    name = "SAVED_MODEL"
    words = "a TensorFlow SavedModel"
    advice = "Upload the folder that tf.saved_model.save wrote: saved_model.pb and variables/."
    template_note = "The signature 'serving_default', or the only one, with the inputs that it has."
    main_files = ("saved_model.pb",)
    forms = frozenset({"graph", "function"})
    packages = PACKAGES
    modules = MODULES
    open_axes = True

    def matches(self, files: ModelFiles) -> bool:
        binary = files.named("saved_model.pb")
        return files.named("saved_model.pbtxt") is not None or (binary is not None and is_saved_model(binary))

    def describe(self, folder: Path, file: str) -> list[dict[str, Any]]:
        from engines.formats.saved_model.description import describe_saved_model

        return [describe_saved_model(folder)]

    def graph_inputs(self, request: ConversionRequest, component: Component, workdir: Path) -> Sequence[TensorSpec]:
        from engines.formats.saved_model.description import choose_signature, inspect_saved_model

        model = inspect_saved_model(self.located(request, component, workdir))
        return model.signatures[choose_signature(model, component.state_dict_key)][0]

    def read(self, job: ReadJob) -> Source:
        from engines.formats.saved_model.reader import read_saved_model

        return read_saved_model(self.located(job.request, job.component, job.workdir), job)
