"""Opens a .tflite file in LiteRT's interpreter. Packages carry this file: see `engines/runtimes/opened.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..opened import OpenedForm

PACKAGES = ("ai-edge-litert",)
INPUTS, OUTPUTS = "inputs", "outputs"
"""Options of a form, as JSON: the file's key of each input by its name, and the keys of the outputs in order."""


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Open the only signature of a file, for that many threads."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    return SignatureForm(interpreter, json.loads(options[INPUTS]), json.loads(options[OUTPUTS]))


class SignatureForm(OpenedForm):
    """A signature of a file; it takes every shape that the file leaves open, and computes one call at a time."""

    def __init__(self, interpreter: Any, inputs: Mapping[str, str], outputs: list[str]) -> None:
        self._interpreter, self._inputs, self._outputs = interpreter, inputs, outputs
        self._runner: Any = interpreter.get_signature_runner()

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        found = self._runner(**{self._inputs[name]: value for name, value in feed.items()})
        return [found[key] for key in self._outputs]

    def close(self) -> None:
        """Release the interpreter."""
        self._runner = self._interpreter = None
