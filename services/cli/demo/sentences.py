"""The third part of the demo: a real sentence model, quantized in two ways, and the effect on its rankings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.demo import loop, steps
from services.cli.demo.sentence_model import export, tokens
from services.cli.demo.story import Line, heading
from services.cli.output import note

if TYPE_CHECKING:
    from lathe_client.connection import Connection

MODEL = "demo-sentences"
PAIRS = (
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
    ("He is playing the guitar on stage.", "A man performs music with a guitar."),
    ("The stock market fell sharply today.", "Shares dropped a lot this afternoon."),
    ("She cooked pasta for dinner.", "In the evening she made spaghetti."),
    ("The train to Berlin was delayed.", "Passengers waited for the late Berlin train."),
    ("Scientists discovered a new planet.", "Astronomers found an unknown world."),
    ("The children are playing football in the park.", "Kids kick a ball around on the grass."),
    ("My phone battery dies too quickly.", "The smartphone does not hold its charge."),
    ("It is raining heavily outside.", "There is a downpour right now."),
    ("The doctor prescribed antibiotics.", "She got medicine from her physician."),
    ("We booked a hotel near the beach.", "Our room for the holiday is close to the sea."),
    ("The court sentenced him to two years.", "The judge sent the man to prison."),
    ("This recipe needs two eggs and some flour.", "Mix flour with a pair of eggs."),
    ("The software update fixed the bug.", "A new release repaired the error in the program."),
    ("Their flight lands at midnight.", "The plane arrives at twelve o'clock at night."),
    ("The museum shows paintings by Monet.", "Works of the impressionist hang in the gallery."),
    ("Coffee keeps me awake.", "I cannot sleep after drinking espresso."),
    ("The bridge was closed for repairs.", "Workers are mending the bridge, so no cars may cross."),
    ("The election results were announced.", "It was made public who won the vote."),
    ("She teaches mathematics at a school.", "Her job is to give maths lessons."),
    ("The river flooded the village.", "Houses stood under water after the river rose."),
    ("The dog barked at the postman.", "A hound was loud when the mail came."),
    ("He ran a marathon in three hours.", "The runner finished the long race quickly."),
    ("The library opens at nine.", "You can borrow books from nine o'clock on."),
)
"""Pairs of sentences with similar meaning; each one's partner should rank first."""


def run(connection: Connection, work: Path) -> list[Line]:
    """Export, convert, quantize weight-only and static, and compare how each ranks similar sentences."""
    import numpy as np

    heading("Sentences 1. Export all-MiniLM-L6-v2 to ONNX, and convert it")
    texts = [text for pair in PAIRS for text in pair]
    inputs = tokens(texts)
    version = steps.push(connection, MODEL, export(work / "sentences.onnx"))
    template = steps.create_template(connection, "sentences_template.yaml", MODEL).name
    package = steps.convert(connection, version.name, template, "onnxruntime", skip_cache=False).result.model_version
    archive = work / "sentences.npz"
    pairs = np.repeat(np.arange(len(PAIRS)), 2).astype(str)
    np.savez(archive, allow_pickle=False, **inputs, **{"label.pair": pairs})
    dataset = loop.create_dataset(connection, "demo-sentences", archive, "", "")
    versions = {"FP32": package}
    for name, scheme in (
        ("weight-only int8", "QUANTIZATION_SCHEME_WEIGHT_ONLY"),
        ("static int8", "QUANTIZATION_SCHEME_STATIC"),
    ):
        heading(f"Sentences 2. Quantize: {name}")
        calibration = dataset if scheme == "QUANTIZATION_SCHEME_STATIC" else ""
        task = loop.quantize(connection, package, calibration, scheme=scheme)
        versions[name] = task.result.model_version
    heading("Sentences 3. Evaluate: does the partner of a sentence rank first?")
    evaluated = [
        loop.evaluate(connection, made, dataset, work / f"sentences-{number}.html")
        for number, made in enumerate(versions.values())
    ]
    loop.compare(connection, evaluated, work / "sentences-comparison.html")
    similarities = {}
    for number, (name, made) in enumerate(versions.items()):
        folder = work / f"sentences-{number}"
        steps.download_package(connection, made, folder)
        similarities[name] = _similarities(steps.run_package(folder, inputs))
    return [
        Line(
            f"sentences, {name}", first_ranks(found), f"rank correlation with FP32 {_agreement(similarities, name):.4f}"
        )
        for name, found in similarities.items()
    ]


def first_ranks(similarities: Any) -> float:
    """Return the share of sentences whose partner is the most similar one."""
    import numpy as np

    partners = np.arange(len(similarities)) ^ 1  # partners are adjacent
    return float((similarities.argmax(1) == partners).mean())


def _similarities(vectors: Any) -> Any:
    import numpy as np

    found = vectors @ vectors.T
    np.fill_diagonal(found, -1)
    return found


def _agreement(similarities: dict[str, Any], name: str) -> float:
    """Return the mean Spearman correlation, over all sentences, of the ranking of the others with that of FP32."""
    import numpy as np

    ranks = [similarities[key].argsort(1).argsort(1).astype(float) for key in ("FP32", name)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    norms = [np.sqrt((each**2).sum(1)) for each in centred]
    correlations = (centred[0] * centred[1]).sum(1) / (norms[0] * norms[1])
    note(f"{name}: lowest rank correlation of a sentence {correlations.min():.4f}")
    return float(correlations.mean())
