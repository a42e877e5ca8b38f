"""Backends by name. A backend's module imports its framework only when it builds or opens."""

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.inductor.runtime import InductorBackend
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeBackend
from engines.runtimes.openvino.runtime import OpenVinoBackend
from engines.runtimes.protocol import Backend, BuildSource, BuiltForm, Session
from engines.runtimes.torchscript.runtime import TorchScriptBackend

_BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (OnnxRuntimeBackend(), OpenVinoBackend(), InductorBackend(), TorchScriptBackend())
}


def backend(name: str) -> Backend:
    """Return the backend of a runtime of the device catalog.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE where there is none or its runtime is not installed.
    """
    found = _BACKENDS.get(name)
    missing = found.available() if found else f"a backend named '{name}'; there are {', '.join(sorted(_BACKENDS))}"
    if found is None or missing:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"Forms for the runtime '{name}' cannot be built here: missing is {missing}.",
            suggested_fix="Install it where the worker runs, or choose another runtime in the template.",
        )
    return found


__all__ = ["Backend", "BuildSource", "BuiltForm", "Session", "backend"]
