"""The second part of the demo: the same workflow for a detector of digits in scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.demo import loop, steps
from services.cli.demo.story import Line, heading, training
from services.cli.output import note

if TYPE_CHECKING:
    from lathe_client.connection import Connection

MODEL = "demo-detector"
LEAST_MAP = 0.4


def run(connection: Connection, work: Path) -> list[Line]:
    """Train, convert, quantize, evaluate, compare, release; return the closing table."""
    from services.cli.demo.detector_training import EPOCHS, train
    from services.cli.demo.scenes import write_scenes

    heading("Detector 1. Train a detector on scenes composed of real digits")
    with training(EPOCHS) as on_epoch:
        trained = train(work, on_epoch)
    architecture = steps.register_architecture(connection, "digit_detector.py", "DigitDetector")
    template = steps.create_template(connection, "detector_template.yaml", MODEL).name
    version = steps.push(connection, MODEL, trained.checkpoint, architecture.name)
    heading("Detector 2. Convert, compare with the source, measure")
    package = steps.convert(connection, version.name, template, "openvino", skip_cache=False).result.model_version
    heading("Detector 3. Import scenes for calibration, and scenes of digits that were not used in training")
    names = {"demo-scenes-seen": trained.calibration, "demo-scenes-held-out": trained.test}
    for name, scenes in names.items():
        write_scenes(scenes, work / f"{name}.zip")
    calibration, dataset = (
        loop.create_dataset(connection, name, work / f"{name}.zip", template, "label") for name in names
    )
    course = loop.Course("Detector", 4, package, calibration, dataset, "mAP", "light", "scene", LEAST_MAP)
    before, after = loop.take(connection, course, work)
    note(f"The PR curves are in {work / 'detector-int8.html'}.")
    return [
        Line("detector, FP32 package", loop.main_figure(before), "mAP of COCO"),
        Line("detector, int8 package", loop.main_figure(after), "mAP of COCO"),
    ]
