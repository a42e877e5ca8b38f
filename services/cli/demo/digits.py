"""The first part of the demo: a classifier of handwritten digits, from training to the release."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.demo import loop, steps
from services.cli.demo.story import Line, heading, training
from services.cli.output import note

if TYPE_CHECKING:
    from lathe_client.connection import Connection

    from services.cli.demo.training import TrainedDigits

MODEL = "demo-digits"
RUNTIMES = ("onnxruntime", "openvino")
LEAST_TOP1 = 0.95
SEARCH_SECONDS = 15


def run(connection: Connection, work: Path) -> list[Line]:
    """Train, convert, verify, quantize, evaluate, compare, release, optimize, profile; return the closing table."""
    heading("Digits 1. Train a CNN on scikit-learn's handwritten digits")
    digits = _train(work)
    heading("Digits 2. Register architecture, template and weights")
    architecture = steps.register_architecture(connection, "digits_cnn.py", "DigitsCNN")
    template = steps.create_template(connection, "digits_template.yaml", MODEL)
    version = steps.push(connection, MODEL, digits.checkpoint, architecture.name)
    note(f"{version.name}: {architecture.name}, {template.name}")
    lines = [Line("PyTorch (source)", digits.accuracy, f"{len(digits.labels)} images")]
    packages = {}
    for runtime in RUNTIMES:
        heading(f"Digits 3. Convert for {runtime}, compare with the source, measure, download, run")
        task = steps.convert(connection, version.name, template.name, runtime, skip_cache=True)
        packages[runtime] = task.result.model_version
        lines.append(_line(f"{runtime} package", connection, task.result.model_version, work / runtime, digits))
    heading("Digits 4. Request the same conversion again")
    begun = time.monotonic()
    steps.convert(connection, version.name, template.name, RUNTIMES[-1], skip_cache=False)
    note(f"Answered from the action cache in {(time.monotonic() - begun) * 1000:.0f} ms.")
    quantized, dataset = _close_the_loop(connection, work, digits, packages[RUNTIMES[-1]], template.name)
    heading(f"Digits 9. Search for {SEARCH_SECONDS} s for the fastest lossless form over all runtimes")
    report = work / "digits-optimization.html"
    loop.optimize(connection, version.name, template.name, dataset, SEARCH_SECONDS, report)
    heading("Digits 10. Profile the int8 package: latency, throughput, memory and its slowest layers")
    steps.profile(connection, quantized, work / "digits-profile.html")
    lines.append(_line("int8 package", connection, quantized, work / "digits-int8", digits))
    return lines


def prepare(work: Path) -> None:
    """Write what a user would bring: weights, the network's source, a template as JSON, and two datasets."""
    import json
    import shutil

    from google.protobuf.json_format import MessageToDict
    from lathe.template.v1.template_service_pb2 import Template

    from services.cli.documents import read_document

    _write_images(work, _train(work))
    shutil.copy(steps.FOLDER / "digits_cnn.py", work)
    # A name of its own: the user's template and that of the other demo can be in one installation.
    template = MessageToDict(read_document(steps.FOLDER / "digits_template.yaml", Template())) | {
        "displayName": "Digits"
    }
    (work / "digits_template.json").write_text(json.dumps(template, indent=2), encoding="utf-8")


def _write_images(work: Path, digits: TrainedDigits) -> tuple[Path, Path]:
    """Write the training images in a folder per class, and the held-out ones with annotations; return both files."""
    from services.cli.demo.digit_images import write_annotated, write_image_folder

    seen, held_out = work / "digits-seen.zip", work / "digits-held-out.zip"
    write_image_folder(digits.seen_images, digits.seen_labels, seen)
    write_annotated(digits.images, digits.labels, held_out)
    return seen, held_out


def _close_the_loop(
    connection: Connection, work: Path, digits: TrainedDigits, package: str, template: str
) -> tuple[str, str]:
    """Import data, quantize, evaluate, compare and release; return the quantized version and the held-out dataset."""
    heading("Digits 5. Import training data for calibration, and held-out digits for evaluation")
    seen, held_out = _write_images(work, digits)
    calibration = loop.create_dataset(connection, "demo-digits-seen", seen, template, "class")
    dataset = loop.create_dataset(connection, "demo-digits-held-out", held_out, template, "digit")
    course = loop.Course("Digits", 6, package, calibration, dataset, "top-1", "strokes", "sample", LEAST_TOP1)
    _, after = loop.take(connection, course, work)
    return str(after.spec.model_version), dataset


def _line(form: str, connection: Connection, version: str, folder: Path, digits: TrainedDigits) -> Line:
    """Download a package and run its own `infer.py` on the held-out images."""
    steps.download_package(connection, version, folder)
    predicted = steps.run_package(folder, {"image": digits.images}).argmax(1)
    precision = steps.manifest(folder)["precision"]
    return Line(form, float((predicted == digits.labels).mean()), f"{precision}, infer.py alone")


def _train(work: Path) -> TrainedDigits:
    from services.cli.demo.training import EPOCHS, train

    with training(EPOCHS) as on_epoch:
        digits = train(work, on_epoch)
    note(f"PyTorch itself gets {digits.accuracy:.2%} of {len(digits.labels)} held-out images right.")
    return digits
