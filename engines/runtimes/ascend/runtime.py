"""Ascend chips: models compiled offline by ATC, the compiler of CANN, and run by pyACL.

ATC compiles for a chip that need not be there. Its precision mode is the template's precision: FP32 keeps the types of
the source, FP16 and BF16 let ATC compute in them. A form is always made from the source. ATC reads Caffe's files and
TensorFlow's frozen graphs itself, which keeps layers that ONNX has no word for; where preprocessing stands in the
graph, or the chip's ATC reads no Caffe, it gets the ONNX graph.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.ascend import toolchain
from engines.runtimes.ascend.aipp_arithmetic import verdicts
from engines.runtimes.ascend.amct import TOOL, find_amct
from engines.runtimes.ascend.command import CAFFE, FROZEN_GRAPH, ONNX, Command, atc_command, words, write_files
from engines.runtimes.ascend.opener import PACKAGES, open_file
from engines.runtimes.ascend.options import KNOBS, levels, wrong
from engines.runtimes.ascend.running import LOG_NAME, run_atc
from engines.runtimes.ascend.sources import Plan, gather, plan
from engines.runtimes.ascend.toolchain import INSTALL, SECOND_PRECISIONS, Cann, family, find_cann
from engines.runtimes.candidates import Candidate, Situation
from engines.runtimes.form import OPEN_QUANTIZER, FormSpec
from engines.runtimes.knobs import Knob, check_knobs
from engines.runtimes.protocol import BuildOptions, BuiltForm, Integers, Layer, Runtime, Session, Where
from engines.runtimes.session import open_session
from engines.runtimes.source import BuildSource
from engines.spec.devices import Device
from engines.tensors import Arrays
from engines.tensors.shapes import format_extents

log = logging.getLogger(__name__)

_TITLE = "ATC"


class Ascend:
    """CANN's ATC and pyACL."""

    name = "ascend"
    title = _TITLE
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = ()
    takes: tuple[str, ...] = (CAFFE, FROZEN_GRAPH, ONNX)
    integers: Integers | None = Integers(tool=TOOL)
    knobs: tuple[Knob, ...] = KNOBS
    keeps_timings = False

    def available(self, device: Device | None = None) -> str | None:
        """Return None if ATC is installed, with the operators of a device if one is given, else what is missing."""
        cann = find_cann()
        if cann is None:
            return INSTALL
        return cann.lacks(device.architecture) if device else None

    def version(self) -> str:
        """Return the version of CANN; empty if it is not installed or does not say."""
        cann = find_cann()
        return cann.version if cann else ""

    def where(self, device: Device) -> Where:
        """Return HERE on a machine with a chip of the device's family."""
        return Where.HERE if family(toolchain.chip()) == family(device.architecture) else Where.DEVICE

    def runs_on(self, device: Device) -> str:
        """Return the chip of this machine if it is of the device's family."""
        return toolchain.chip() if self.where(device) is Where.HERE else ""

    def build(self, source: BuildSource, target: Device, options: BuildOptions, out_dir: Path) -> BuiltForm:
        """Compile the source to `out_dir/model.om`; what ATC said is `atc.log` beside it."""
        knobs = options.knobs
        check_knobs(_TITLE, knobs, KNOBS)
        soc = _soc(target, knobs)
        chosen = plan(source, soc, options.precision, knobs)
        cann = _installed(soc)
        out_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            material = gather(source, chosen, options.precision, knobs, folder)
            second = cann.numbers >= SECOND_PRECISIONS
            command = atc_command(material, soc, options.precision, knobs, second=second)
            write_files(folder, command.files)
            line = words(command.arguments)
            log.info("CANN %s: %s", cann.version or "of unknown version", line)
            options.progress(0.0, f"ATC compiles for {soc}")
            try:
                run_atc(
                    [str(cann.atc), *command.arguments],
                    folder,
                    cann.environment(),
                    levels(knobs),
                    lambda said: options.progress(0.0, f"ATC: {said[:100]}"),
                )
            finally:
                _keep_log(folder, out_dir, line)
            made = _offline_model(folder)
            shutil.move(folder / made, out_dir / made)
        outputs = tuple(spec.name for spec in source.signature.outputs)
        stated = _opening(command, source, chosen)
        return BuiltForm(
            self.name,
            target.id,
            options.precision,
            out_dir,
            (made,),
            outputs,
            stated,
            tuple(_notes(command, source, chosen, knobs)),
            chosen.taken,
        )

    def open(self, form: BuiltForm, device: Device, threads: int) -> Session:
        """Load the form onto the chip."""
        return open_session(_TITLE, open_file, form, threads)

    def layers(self, form: BuiltForm, feed: Arrays, threads: int) -> list[Layer]:
        """Return nothing: the chip's profiler is a program of its own (msprof)."""
        return []

    def candidates(self, now: Situation) -> Iterator[Candidate]:
        """Yield the source in each precision that is allowed, in eight bits if AMCT is installed."""
        if now.allows_half:
            yield Candidate(FormSpec(self.name, "FP16"), 89.5)
            yield Candidate(FormSpec(self.name, "FP16", knobs=(("precision_mode_v2", "mixed_float16"),)), 50.5)
        yield Candidate(FormSpec(self.name, "FP32"), 88.5)
        if now.quantizes and find_amct():
            yield Candidate(FormSpec(self.name, "INT8", OPEN_QUANTIZER), 66)

    def baselines(self, now: Situation) -> Iterable[Candidate]:
        """Yield nothing: a form of a chip does not stand for the source."""
        return ()

    def environment(self, target: Device) -> dict[str, str]:
        """Return the versions of CANN and of AMCT, and the chip if there is one."""
        amct = find_amct()
        found = {"cann": self.version(), "amct": amct.version or "?" if amct else "", "ascend": toolchain.chip()}
        return {name: value for name, value in found.items() if value}


RUNTIME: Runtime = Ascend()


def _soc(target: Device, knobs: Mapping[str, str]) -> str:
    soc = knobs.get("soc_version", target.architecture)
    if family(soc) != family(target.architecture):
        raise wrong(
            "soc_version",
            f"{soc} is no chip of {target.id}, whose chips are of the family {family(target.architecture)}",
            "Choose the device of that chip in the template.",
        )
    return soc


def _installed(soc: str) -> Cann:
    cann = find_cann()
    missing = cann.lacks(soc) if cann else INSTALL
    if cann is None or missing:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_UNAVAILABLE,
            f"ATC cannot compile for {soc} here: missing is {missing}.",
            suggested_fix="Run the task on a worker whose image has it: see `worker-ascend` in deploy/README.md.",
        )
    return cann


def _offline_model(folder: Path) -> str:
    """Return the name of the offline model; ATC adds system and processor to it if it runs nowhere else."""
    found = sorted(path.name for path in folder.glob("model*.om"))
    if not found:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            "ATC reported success and wrote no offline model.",
            suggested_fix="Read the task's log for what it said.",
        )
    return found[0]


def _keep_log(folder: Path, out_dir: Path, line: str) -> None:
    said = folder / LOG_NAME
    text = said.read_text(encoding="utf-8") if said.is_file() else ""
    (out_dir / LOG_NAME).write_text(f"{line}\n{text}", encoding="utf-8")


def _own_notes(chosen: Plan, source: BuildSource) -> Iterator[str]:
    for spec, given in zip(chosen.taken or source.signature.inputs, source.signature.inputs, strict=True):
        if spec != given:
            shape = format_extents(spec.min, spec.max, ())
            yield f"AIPP prepares '{spec.name}' as insert_op_conf says: the package takes bytes {shape}."
    if not chosen.taken:
        yield "AIPP prepares images as each call says (dynamic): infer.py and evaluations cannot state it."


def _opening(command: Command, source: BuildSource, chosen: Plan) -> dict[str, str]:
    shapes, inputs = command.shapes, chosen.taken or source.signature.inputs
    stated = {
        "soc_version": command.soc,
        "names": ";".join(spec.name for spec in inputs),
        "varying": ";".join(",".join(map(str, spec.dynamic_axes)) for spec in inputs),
        "kind": shapes.kind,
        "gears": shapes.value if shapes.kind else "",
        "batches": ",".join(map(str, shapes.batches)),
        "orders": ";".join(chosen.orders) if any(chosen.orders) else "",
    }
    return {name: value for name, value in stated.items() if value or name == "varying"}


def _notes(command: Command, source: BuildSource, chosen: Plan, knobs: Mapping[str, str]) -> Iterator[str]:
    if "insert_op_conf" in knobs:
        yield from _own_notes(chosen, source)
    elif chosen.aipp and source.unprocessed:
        yield from verdicts(chosen.aipp, source.signature.inputs, source.unprocessed.preprocessing)
    if command.shapes.kind:
        count = len(command.shapes.gears)
        yield f"The form runs at {count} profiles only, {command.shapes.kind}={command.shapes.value}."
    if "output_type" in knobs:
        yield f"Its outputs have the types {knobs['output_type']}, which ATC was asked for, not those of the source."
