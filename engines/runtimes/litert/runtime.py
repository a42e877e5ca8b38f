"""LiteRT on ARM: a .tflite file of the source's own network, computed by the interpreter and its XNNPACK kernels.

A function of TensorFlow becomes the file by TFLiteConverter, a torch network by litert-torch. Graphs of ONNX are not
taken: ONNX Runtime computes them on ARM as they are. FP16 stores weights in half precision; XNNPACK widens them when it
loads the file. Integers stand in the file: quantizers write it (`engines.quantization.litert_quantizers`).

The interpreter is the same program on x86. Without an ARM machine or an emulator of one, parity is that of its x86
kernels, and a report says so.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec
from engines.runtimes.host import HostRuntime
from engines.runtimes.knobs import THREADS, Knob, check_knobs, shared_options
from engines.runtimes.litert import torch_converter
from engines.runtimes.litert.opener import INPUTS, OUTPUTS, PACKAGES, open_file
from engines.runtimes.protocol import BuildOptions, BuiltForm, Integers, Runtime, Session, Where
from engines.runtimes.refusals import crashed, unsupported_precision
from engines.runtimes.session import open_session
from engines.runtimes.source import FUNCTION, NETWORK, BuildSource
from engines.spec.devices import Device
from engines.spec.toolchain import cpu

_TITLE = "LiteRT"
TFLITE = "tflite"
"""Kind of source that is a .tflite file: LiteRT's own form."""
_KNOBS = (THREADS,)
_UNRESOLVED = re.compile(r"unresolved custom op: (?P<operator>\w+)")


class LiteRt(HostRuntime):
    """LiteRT's interpreter on CPUs."""

    name = "litert"
    title = _TITLE
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = ("ai_edge_litert.interpreter",)
    takes: tuple[str, ...] = (TFLITE, FUNCTION, NETWORK)
    integers: Integers | None = Integers(TFLITE)
    knobs: tuple[Knob, ...] = _KNOBS
    tools = ("ai-edge-quantizer", "tensorflow", "tensorflow-cpu")
    emulated = True

    def available(self, device: Device | None = None) -> str | None:
        """Return None if the interpreter is installed, else what is missing. Imports no framework."""
        return None if importlib.util.find_spec("ai_edge_litert") else f"the package `{PACKAGES[0]}`"

    def where(self, device: Device) -> Where:
        """Return HERE on ARM; elsewhere EMULATOR, as the interpreter computes the same operators on any processor."""
        found = super().where(device)
        return Where.EMULATOR if found is Where.DEVICE else found

    def runs_on(self, device: Device) -> str:
        """Return the processor or the emulator; without either, the interpreter of this machine's processor."""
        return super().runs_on(device) or f"the LiteRT interpreter on {platform.machine()}: {cpu()[0]}"

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Write the network as `out_dir/model.tflite`."""
        check_knobs(_TITLE, options.knobs, _KNOBS)
        taken = source.form_for(_TITLE, self.takes)
        content = source.files[TFLITE].read_bytes() if taken == TFLITE else _converted(source, taken, options.precision)
        out_dir.mkdir(parents=True, exist_ok=True)
        path = out_dir / "model.tflite"
        path.write_bytes(content)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        stated = {**interface(content, source), **shared_options(options.knobs)}
        return BuiltForm(self.name, target.id, options.precision, out_dir, (path.name,), outputs, stated)

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Load the file."""
        return open_session(_TITLE, open_file, form, threads, _translate, emulator=self.emulator(device))

    def environment(self, target: Device) -> dict[str, str]:
        """Return the versions of what builds and runs."""
        own = torch_converter.version()
        return {**super().environment(target), **({"litert-torch": own} if own else {})}

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the network in float32, with weights in float16, and quantized."""
        if not now.has_function and not (now.has_module and torch_converter.environment()):
            return
        yield Candidate(FormSpec(self.name, "FP32"), 86)
        if now.allows_half:
            yield Candidate(FormSpec(self.name, "FP16"), 94 if now.objective == "SIZE" else 18)
        if now.quantizes:
            yield Candidate(FormSpec(self.name, "INT8", OPEN_QUANTIZER), 66)


RUNTIME: Runtime = LiteRt()


def _converted(source: BuildSource, taken: str, precision: str) -> bytes:
    from engines.runtimes.litert.quantizing import half_file
    from engines.runtimes.litert.tensorflow_converter import converted, half_weights

    if precision not in ("FP32", "FP16"):
        why = "a conversion writes FP32 or FP16."
        raise unsupported_precision(_TITLE, precision, why, "A quantization task makes INT8.")
    if taken == FUNCTION and precision == "FP16":
        return converted(source, half_weights)
    content = floating_file(source)
    return half_file(content) if precision == "FP16" else content


def floating_file(source: BuildSource) -> bytes:
    """Return the .tflite file in float32 of a source's function, else of its network.

    Raises:
        EngineFailure: As `build`.
    """
    from engines.runtimes.litert.tensorflow_converter import converted

    if source.form_for(_TITLE, (FUNCTION, NETWORK)) == FUNCTION:
        return converted(source)
    return torch_converter.converted_network(source)


def interface(content: bytes, source: BuildSource) -> dict[str, str]:
    """Return the options that name a file's keys of the package's inputs and outputs.

    Raises:
        EngineFailure: INVALID_MODEL if they are not the package's.
    """
    from ai_edge_litert.interpreter import Interpreter

    from engines.runtimes.litert.tensorflow_converter import file_inputs

    [keys] = Interpreter(model_content=content).get_signature_list().values()
    inputs = [spec.name for spec in source.signature.inputs]
    outputs = [spec.name for spec in source.signature.outputs]
    by_name = dict(zip(inputs, file_inputs(inputs), strict=True)), outputs
    by_place = {name: f"args_{i}" for i, name in enumerate(inputs)}, [f"output_{i}" for i in range(len(outputs))]
    for takes, gives in (by_name, by_place):
        if set(takes.values()) == set(keys["inputs"]) and set(gives) == set(keys["outputs"]):
            return {INPUTS: json.dumps(takes), OUTPUTS: json.dumps(gives)}
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        f"The .tflite file takes {', '.join(keys['inputs'])} and gives {', '.join(keys['outputs'])}; the package has "
        f"{', '.join(inputs)} and {', '.join(outputs)}.",
        suggested_fix="The file lacks inputs that the network does not use: leave them out of the source, too.",
    )


def _translate(error: Exception) -> EngineFailure:
    if match := _UNRESOLVED.search(str(error)):
        return EngineFailure(
            FailureReason.UNSUPPORTED_OPERATOR,
            f"LiteRT's interpreter has no operator {match['operator']}.",
            operator=match["operator"],
            evidence=str(error).strip()[-500:],
            suggested_fix="Express it with operators that LiteRT has, or choose the runtime onnxruntime.",
        )
    return crashed(_TITLE, "load the file", error)
