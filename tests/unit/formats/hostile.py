"""Files that mean harm, made by code: they claim more than they have, nest, repeat, refer to themselves, or run things.

`CASES` has a name, the format that the files claim to be in, and the files by path.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import NamedTuple

NET = 'name: "n"\ninput: "data"\ninput_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'
RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'
RETINANET = "model = dict(type='RetinaNet')\n"
META = "MODEL:\n  META_ARCHITECTURE: RetinaNet\n"
NO_CHECKPOINT = b"PK\x03\x04"
MEBIBYTE = bytes(1 << 20)


class Case(NamedTuple):
    """Files that claim to be in a format. `write` makes them by path when they are needed: some have megabytes."""

    format: str
    write: Callable[[], Mapping[str, str | bytes]]


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, data: bytes) -> bytes:
    """Return a field of bytes as protobuf writes it."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def zipped(name: str, mebibytes: int) -> bytes:
    """Return an archive with one file of zeros, a thousand times smaller than that."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        for _ in range(mebibytes):
            file.write(MEBIBYTE)
    return buffer.getvalue()


class Caller:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        """Say what unpickling does."""
        import os

        return os.system, ("touch PWNED",)


def _caffe(text: str, weights: bytes = b"\x0a\x01n") -> Case:
    return Case("CAFFE", lambda: {"n.prototxt": text, "n.caffemodel": weights})


def _layer(kind: str, parameters: str) -> Case:
    return _caffe(f'{NET}layer {{ name: "c" type: "{kind}" bottom: "data" top: "c" {parameters} }}')


def _config(text: str | bytes, checkpoint: bytes = NO_CHECKPOINT) -> Case:
    return Case("MMDETECTION", lambda: {"c.py": text, "c.pth": checkpoint})


def _yaml(text: str) -> Case:
    return Case("DETECTRON2", lambda: {"c.yaml": text, "c.pth": NO_CHECKPOINT})


def _blob_that_lies() -> bytes:
    shape = b"".join(b"\x08" + varint(1 << 40) for _ in range(8))
    blob = field(7, shape) + field(5, bytes(4))
    return field(100, field(1, b"c") + field(2, b"Convolution") + field(7, blob))


def _nested(number: int, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = field(number, data)
    return data


def _inherits(count: int) -> Mapping[str, str | bytes]:
    files: dict[str, str | bytes] = {f"b{i}.py": f"_base_ = './b{i + 1}.py'\n" for i in range(count)}
    return {**files, f"b{count}.py": RETINANET, "c.pth": NO_CHECKPOINT}


def _merges(levels: int) -> str:
    first = "a0: &a0 {x: 1}\n"
    return META + first + "".join(f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, levels))


def _repeats(levels: int) -> str:
    return (
        META
        + "a0: &a0 [x, x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, levels))
    )


def _subgraphs(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + varint(20 << 3) + varint(5)
        graph = field(1, field(4, b"If") + field(5, attribute))
    return b"\x08\x08" + field(7, graph) + field(8, field(1, b"") + b"\x10\x11")


CONVOLUTION = "convolution_param { num_output: 4294967295 kernel_size: 4294967295 pad: 4294967295 group: 0 }"
HEADERS = b'{"a":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,4]},'
CASES: dict[str, Case] = {
    "prototxt of nothing but braces": _caffe(NET + "layer { " * 100_000),
    "prototxt deep in a layer": _layer("Input", "input_param { shape { " * 15 + "} }" * 15),
    "prototxt of empty layers": _caffe(NET + "layer {}\n" * 25_000),
    "prototxt with a layer of many outputs": _layer("Split", 'top: "t" ' * 250_000),
    "prototxt with many extents": _caffe(f'input: "data"\ninput_shape {{ {"dim: 2 " * 250_000} }}\n{RELU}'),
    "prototxt with giant extents": _caffe(
        f'input: "data"\ninput_shape {{ dim: {(1 << 63) - 1} dim: {(1 << 63) - 1} dim: 8 dim: 8 }}\n{RELU}'
    ),
    "prototxt with a giant number": _layer("InnerProduct", f"inner_product_param {{ num_output: {'9' * 300_000} }}"),
    "prototxt with a giant window": _layer("Convolution", CONVOLUTION),
    "prototxt with numbers that are none": _layer("Power", "power_param { power: 1e99999999 scale: nan shift: -inf }"),
    "prototxt with an endless text": _caffe(NET + 'layer { name: "' + "a\\\n" * 500_000),
    "prototxt with endless comments": _caffe(NET + "layer " + "#\n" * 300_000 + '{ name: "x" }'),
    "caffemodel shorter than it says": _caffe(NET + RELU, b"\xa2\x06" + varint(1 << 60) + b"abc"),
    "caffemodel nested deeply": _caffe(NET + RELU, _nested(100, 5_000)),
    "caffemodel whose blob lies": Case(
        "CAFFE",
        lambda: {
            "n.prototxt": f'{NET}layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 4 kernel_size: 3 } }",
            "n.caffemodel": _blob_that_lies(),
        },
    ),
    "config that runs a command": _config("import os\nos.system('touch PWNED')\n" + RETINANET),
    "config that climbs to a class": _config("model = dict(type='R', x=().__class__.__base__.__subclasses__())\n"),
    "config that never ends": _config(RETINANET + "while True: pass\n"),
    "config with an endless power": _config("model = dict(type='RetinaNet', x=9**9**9**9)\n"),
    "config with a giant list": _config("model = dict(type='RetinaNet', x=['a' * 10**9] * 10**9)\n"),
    "config nested deeply": _config(f"model = dict(type={'[' * 100_000}{']' * 100_000})\n"),
    "config with many signs": _config(f"model = dict(type='R', x={'-' * 50_000}1)\n"),
    "config with many terms": _config(f"model = dict(type='R', x=1{'+1' * 100_000})\n"),
    "config with a giant number": _config(f"model = dict(type='R', x={'9' * 300_000})\n"),
    "config in another coding": _config(b"# -*- coding: utf-7 -*-\n" + RETINANET.encode()),
    "config with a NUL": _config(RETINANET.encode() + b"\0"),
    "config that builds on itself": _config("_base_ = './c.py'\n" + RETINANET),
    "config that builds on a thousand": Case("MMDETECTION", lambda: _inherits(1_000)),
    "config that builds on what is outside": _config("_base_ = '../../../etc/passwd.py'\n" + RETINANET),
    "checkpoint that runs a command": _config(RETINANET, pickle.dumps(Caller())),
    "YAML that repeats itself": _yaml(_repeats(30)),
    "YAML that merges itself": _yaml(_merges(12)),
    "YAML nested deeply": _yaml(META + "x: " + "[" * 20_000),
    "YAML that runs a command": _yaml(META + "x: !!python/object/apply:os.system ['touch PWNED']\n"),
    "YAML with giant numbers": _yaml(f"{META}x: {'9' * 300_000}\ny: 190:20{':59' * 10_000}\n"),
    "YAML with a day that is none": _yaml(META + "x: 9999-99-99\n"),
    "YAML with keys that are none": _yaml(META + "? [a, b]\n: 1\n? {a: b}\n: 2\n"),
    "YAML that holds itself": _yaml("MODEL: &m\n  META_ARCHITECTURE: RetinaNet\n  x: *m\n"),
    "YAML that builds on itself": _yaml("_BASE_: c.yaml\n"),
    "checkpoint of zeros": Case("PTH", lambda: {"a.pth": zipped("a/data.pkl", 128)}),
    "checkpoint without a list": Case("PTH", lambda: {"a.pth": zipped("a/data/0", 128)}),
    "checkpoint that doubles": Case(
        "PTH", lambda: {"a.pth": b"\x80\x02(lq\x00" + b"h\x00h\x00\x86q\x00" * 50_000 + b"."}
    ),
    "checkpoint with a giant number": Case(
        "PTH", lambda: {"a.pth": b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"\1" * 10 + b"."}
    ),
    "checkpoint with giant bytes": Case("PTH", lambda: {"a.pth": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"."}),
    "checkpoint of nothing but marks": Case("PTH", lambda: {"a.pth": b"\x80\x02" + b"(" * 500_000 + b"...."}),
    "TorchScript of zeros": Case("TORCHSCRIPT", lambda: {"a.pt": zipped("a/code/__torch__.py", 128)}),
    "program of zeros": Case("EXPORTED_PROGRAM", lambda: {"a.pt2": zipped("a/models/model.json", 128)}),
    "SavedModel nested deeply": Case(
        "SAVED_MODEL",
        lambda: {
            "saved_model.pb": b"\x08\x01" + _nested(2, 5_000),
            "variables/variables.index": bytes(100),
            "variables/variables.data-00000-of-00001": bytes(4),
        },
    ),
    "frozen graph of one node": Case(
        "FROZEN_GRAPH", lambda: {"a.pb": field(1, field(1, b"a") + field(2, b"Foo")) * 100_000}
    ),
    "frozen graph shorter than it says": Case("FROZEN_GRAPH", lambda: {"a.pb": b"\x0a\xff\xff\xff\xff\x7f"}),
    "ONNX nested deeply": Case("ONNX", lambda: {"a.onnx": _subgraphs(3_000)}),
    "ONNX of one node": Case(
        "ONNX",
        lambda: {
            "a.onnx": b"\x08\x08" + field(7, field(1, field(1, b"a") + field(2, b"a") + field(4, b"Relu")) * 50_000)
        },
    ),
    "config.json nested deeply": Case(
        "HUGGINGFACE",
        lambda: {"config.json": '{"model_type":"bert","a":' + "[" * 100_000, "model.safetensors": bytes(16)},
    ),
    "safetensors shorter than it says": Case(
        "HUGGINGFACE",
        lambda: {"config.json": json.dumps({"model_type": "bert"}), "model.safetensors": struct.pack("<Q", 1 << 62)},
    ),
    "safetensors with giant tensors": Case(
        "HUGGINGFACE",
        lambda: {
            "config.json": json.dumps({"model_type": "bert", "num_hidden_layers": 10**12, "hidden_size": 10**9}),
            "model.safetensors": struct.pack("<Q", len(HEADERS)) + HEADERS[:-1] + b"}",
        },
    ),
    "manifest nested deeply": Case("PACKAGE", lambda: {"manifest.json": "[" * 1_000_000}),
    "manifest that names what is outside": Case(
        "PACKAGE",
        lambda: {
            "manifest.json": json.dumps(
                {
                    "schema_version": 1,
                    "components": [{"name": "x", "entry": "../../etc/passwd", "files": ["/etc/passwd"]}],
                }
            )
        },
    ),
}

WILD = {
    "offsets beyond the end": b"\xff\xff\xff\x7fTFL3" + bytes(64),
    "offsets before the beginning": struct.pack("<I", 16) + b"TFL3" + bytes(8) + struct.pack("<i", -(1 << 31)) * 12,
    "a vector of four billion": struct.pack("<I4sHHHHi", 16, b"TFL3", 8, 8, 4, 4, 8) + b"\x04\0\0\0" + b"\xff" * 64,
    "nothing but the mark": struct.pack("<I", 8) + b"TFL3",
}
"""Flatbuffers that claim to be of LiteRT."""
