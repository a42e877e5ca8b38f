"""Files whose form is in order, and that mean harm to who reads or computes them: see `hostile.py`.

What computes takes one input `x` of float32, 1*4.
"""

from __future__ import annotations

import io
import itertools
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tests.unit.formats.hostile import META, NET, NO_CHECKPOINT, RELU, RETINANET, Caller, Case, field, varint

GIANT = 1 << 40
COMMAND = "__import__('os').system('touch PWNED')"
SHADOW = "/etc/shadow"
Files = Mapping[str, str | bytes]
NO_SAMPLE: Files = {"data.pkl": pickle.dumps(((), {}), 2), "version": "3\n", "byteorder": "little"}
"""What torch.save writes of no arguments."""


def archive(entries: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive as torch writes them: stored, one folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in entries.items():
            file.writestr(f"a/{name}", data)
    return buffer.getvalue()


def _caffe(layers: str, weights: bytes = field(100, field(1, b"r") + field(2, b"ReLU")), net: str = NET) -> Case:
    return Case("CAFFE", lambda: {"n.prototxt": net + layers, "n.caffemodel": weights})


def _convolution(parameters: str) -> Case:
    blob = field(7, b"".join(b"\x08" + varint(extent) for extent in (1, 3, 1, 1))) + field(5, bytes(12))
    whole = f"convolution_param {{ num_output: 1 bias_term: false {parameters} }}"
    layer = f'layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" {whole} }}'
    return _caffe(layer, field(100, field(1, b"c") + field(2, b"Convolution") + field(7, blob)))


def _script(body: str, pickled: bytes = b"") -> Case:
    plain = b"\x80\x02c__torch__\nN\nq\x00)\x81}q\x01X\x08\x00\x00\x00trainingq\x02\x89sb."
    code = f"class N(Module):\n  training : bool\n  def forward(self: __torch__.N, x: Tensor) -> Tensor:\n    {body}\n"
    entries: Files = {
        "data.pkl": pickled or plain,
        "code/__torch__.py": code,
        "constants.pkl": b"\x80\x02).",
        "version": "3\n",
    }
    return Case("TORCHSCRIPT", lambda: {"a.pt": archive(entries)})


def _program(
    extent: Mapping[str, Any] | None = None,
    target: str = "torch.ops.aten.add.Tensor",
    argument: Mapping[str, Any] | None = None,
    sample: Files | bytes = NO_SAMPLE,
) -> Case:
    """A program of torch.export that adds 1 to `x`, with another first extent, operator, argument or sample."""
    sizes = [extent or {"as_int": 1}, {"as_int": 4}]
    tensor = {
        "dtype": 7,
        "sizes": sizes,
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": 4}, {"as_int": 1}],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }
    x, y = ({"as_tensor": {"name": name}} for name in "xy")
    node: dict[str, Any] = {
        "target": target,
        "inputs": [
            {"name": "self", "arg": x, "kind": 1},
            {"name": "other", "arg": argument or {"as_int": 1}, "kind": 1},
        ],
        "outputs": [y],
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": "y",
    }
    leaf = '{"type": null, "context": null, "children_spec": []}'
    arguments = f'{{"type": "builtins.tuple", "context": "null", "children_spec": [{leaf}]}}'
    keywords = '{"type": "builtins.dict", "context": "[]", "children_spec": []}'
    taken = f'[1, {{"type": "builtins.tuple", "context": "null", "children_spec": [{arguments}, {keywords}]}}]'
    graph = {
        "inputs": [x],
        "outputs": [y],
        "nodes": [node],
        "tensor_values": {"x": tensor, "y": tensor},
        "sym_int_values": {},
        "sym_bool_values": {},
        "sym_float_values": {},
        "custom_obj_values": {},
        "is_single_tensor_return": False,
    }
    call = {"inputs": [], "outputs": [], "in_spec": taken, "out_spec": f"[1, {leaf}]", "forward_arg_names": ["x"]}
    module = {
        "graph": graph,
        "signature": {
            "input_specs": [{"user_input": {"arg": x}}],
            "output_specs": [{"user_output": {"arg": y}}],
        },
        "module_call_graph": [{"fqn": "", "signature": call}],
        "metadata": {},
        "treespec_namedtuple_fields": {},
    }
    program = {
        "graph_module": module,
        "opset_version": {"aten": 10},
        "range_constraints": {},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0+cpu",
        "guards_code": [],
    }
    entries: dict[str, str | bytes] = {
        "models/model.json": json.dumps(program),
        "data/weights/model_weights_config.json": '{"config": {}}',
        "data/constants/model_constants_config.json": '{"config": {}}',
        "archive_format": "pt2",
        "archive_version": "0",
        "byteorder": "little",
        ".data/version": "3\n",
        ".data/serialization_id": "0" * 40,
        "data/sample_inputs/model.pt": sample if isinstance(sample, bytes) else archive(sample),
    }
    return Case("EXPORTED_PROGRAM", lambda: {"a.pt2": archive(entries)})


Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]


def _onnx(*nodes: Node, **parts: Any) -> bytes:
    """A graph from `x` to `y`: its nodes, each an operator, inputs, outputs and attributes; and initializers."""
    from onnx import TensorProto, helper

    made = [helper.make_node(kind, takes, gives, **attributes) for kind, takes, gives, attributes in nodes]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 4]), ("y", None))
    ]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:], initializer=parts.get("initializer", []))
    functions = parts.get("functions", [])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(entry.domain, 1) for entry in functions)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets, functions=functions)
    return bytes(model.SerializeToString())


def _outside(location: str, **more: str) -> Case:
    def write() -> Files:
        from onnx import TensorProto

        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=value)
        return {"a.onnx": _onnx(("Add", ["x", "w"], ["y"], {}), initializer=[tensor]), "w.bin": bytes(16)}

    return Case("ONNX", write)


def _numbers(name: str, *values: int) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def _filled() -> Files:
    fill = _numbers("s", 1 << 20, 1 << 20)
    nodes: list[Node] = [
        ("ConstantOfShape", ["s"], ["f"], {}),
        ("ReduceSum", ["f"], ["t"], {}),
        ("Add", ["x", "t"], ["y"], {}),
    ]
    return {"a.onnx": _onnx(*nodes, initializer=[fill])}


def _doubled() -> Files:
    names = ["x", *(f"d{number}" for number in range(39)), "y"]
    nodes = [("Concat", [a, a], [b], {"axis": 1}) for a, b in itertools.pairwise(names)]
    return {"a.onnx": _onnx(*nodes)}


def _weightless() -> Files:
    from onnx import TensorProto

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[GIANT, 4])
    return {"a.onnx": _onnx(("Add", ["x", "w"], ["y"], {}), initializer=[tensor])}


def _calls_itself() -> Files:
    from onnx import helper

    opsets = [helper.make_opsetid("d", 1)]
    function = helper.make_function("d", "F", ["a"], ["b"], [helper.make_node("F", ["a"], ["b"], domain="d")], opsets)
    return {"a.onnx": _onnx(("F", ["x"], ["y"], {"domain": "d"}), functions=[function])}


def _frozen(*nodes: tuple[str, str, Sequence[str], Mapping[str, Any]]) -> Case:
    """A graph of nodes, each a name, an operator, inputs, and attributes: numbers of types, or tensors."""

    def write() -> Files:
        from engines.formats.tensorflow import messages_pb2 as tf
        from tests.unit.formats.tensorflow_bytes import node

        def attribute(value: Any) -> tf.AttrValue:
            return (
                tf.AttrValue(type=cast(tf.DataType, value))
                if isinstance(value, int)
                else tf.AttrValue(tensor=_tensor(value))
            )

        made = [
            tf.NodeDef(name=name, op=kind, input=takes, attr={key: attribute(entry) for key, entry in values.items()})
            for name, kind, takes, values in nodes
        ]
        return {"a.pb": tf.GraphDef(node=[node("x", "Placeholder", shape=[1, 4]), *made]).SerializeToString()}

    return Case("FROZEN_GRAPH", write)


def _tensor(value: str | Sequence[int] | float) -> Any:
    """A tensor as TensorFlow writes it, by field numbers: a text, extents, or a number."""
    from engines.formats.tensorflow import messages_pb2 as tf

    if isinstance(value, str):
        return tf.TensorProto.FromString(b"\x08\x07\x12\x00" + field(8, value.encode()))
    if isinstance(value, float):
        return tf.TensorProto.FromString(b"\x08\x01\x12\x00" + field(5, struct.pack("<f", value)))
    data = b"".join(map(varint, value))
    return tf.TensorProto.FromString(b"\x08\x03" + field(2, field(2, b"\x08" + varint(len(value)))) + field(7, data))


FLOAT, INT, TEXT = 1, 3, 7
"""Types of TensorFlow."""


def _huggingface(config: Mapping[str, Any], **files: str | bytes) -> Case:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    weights = {"model.safetensors": struct.pack("<Q", len(header)) + header + bytes(4)}
    named = {name.replace("__", "."): data for name, data in files.items()}
    return Case(
        "HUGGINGFACE",
        lambda: {"config.json": json.dumps({"model_type": "bert", **config}), **(named or weights)},
    )


TINY = {
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 8,
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 4,
    "max_position_embeddings": 8,
}
INDEX = json.dumps({"metadata": {}, "weight_map": {"a": "../../../etc/passwd"}})
PROGRAMS: dict[str, Case] = {
    "net with an image of 120 gigabytes": _caffe(
        RELU, net='input: "data"\ninput_shape { dim: 1 dim: 3 dim: 100000 dim: 100000 }\n'
    ),
    "net that repeats its image": _caffe(
        'layer { name: "r" type: "Tile" bottom: "data" top: "r" tile_param { axis: 1 tiles: 2147483647 } }'
    ),
    "net that takes what it makes": _caffe(
        'layer { name: "r" type: "ReLU" bottom: "s" top: "r" }\nlayer { name: "s" type: "ReLU" bottom: "r" top: "s" }'
    ),
    "net with a giant margin": _convolution("kernel_size: 1 pad: 2147483647"),
    "net with a giant stride": _convolution("kernel_size: 1 stride: 4294967295 dilation: 4294967295"),
    "net with a group of its own": _convolution("kernel_size: 1 group: 4294967295"),
    "net with a shape of its own": _caffe(
        'layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param { shape { dim: -1 dim: -1 dim: 0 } } }'
    ),
    "pickle that runs a command": Case("PTH", lambda: {"a.pth": pickle.dumps(Caller())}),
    "checkpoint whose pickle runs a command": Case(
        "PTH", lambda: {"a.pth": archive({"data.pkl": pickle.dumps(Caller(), 2), "version": "3\n"})}
    ),
    "script whose pickle runs a command": _script("return x", pickle.dumps(Caller(), 2)),
    "script that reads a file": _script(f'return torch.add(x, torch.from_file("{SHADOW}", False, 4, dtype=6))'),
    "script that takes four terabytes": _script("return torch.add(torch.sum(torch.ones([1099511627776])), x)"),
    "program whose extent runs a command": _program({"as_expr": {"expr_str": COMMAND, "hint": {"as_int": 2}}}),
    "program whose extent never ends": _program({"as_expr": {"expr_str": "9**9**9**9", "hint": {"as_int": 2}}}),
    "program of a giant tensor": _program({"as_int": 1 << 62}),
    "program of a negative tensor": _program({"as_int": -1}),
    "program that calls what is no operator": _program(
        target="torch.hub.os.system", argument={"as_string": "touch PWNED"}
    ),
    "program whose example runs a command": _program(sample=pickle.dumps(Caller(), 2)),
    "graph whose weights are outside": _outside("../../../../../../etc/passwd"),
    "graph whose weights are elsewhere": _outside("/etc/passwd"),
    "graph whose weights begin before the file": _outside("w.bin", offset="-4096", length="16"),
    "graph whose weights end after the file": _outside("w.bin", offset="0", length=str(GIANT)),
    "graph that fills four terabytes": Case("ONNX", _filled),
    "graph without its weights": Case("ONNX", _weightless),
    "graph whose function calls itself": Case("ONNX", _calls_itself),
    "graph that writes a file": _frozen(
        ("n", "Const", (), {"dtype": TEXT, "value": "PWNED"}),
        ("w", "WriteFile", ("n", "n"), {}),
        ("y", "Identity", ("x", "^w"), {"T": FLOAT}),
    ),
    "graph that reads a file": _frozen(
        ("n", "Const", (), {"dtype": TEXT, "value": SHADOW}),
        ("r", "ReadFile", ("n",), {}),
        ("d", "DecodeRaw", ("r",), {"out_type": FLOAT}),
        ("y", "Add", ("x", "d"), {"T": FLOAT}),
    ),
    "graph that fills what nobody has": _frozen(
        ("s", "Const", (), {"dtype": INT, "value": (1 << 20, 1 << 18, 4)}),
        ("v", "Const", (), {"dtype": FLOAT, "value": 1.0}),
        ("f", "Fill", ("s", "v"), {"T": FLOAT}),
        ("y", "Add", ("f", "x"), {"T": FLOAT}),
    ),
    "graph that calls Python": _frozen(("y", "PyFunc", ("x",), {})),
    "model with code of its own": _huggingface({**TINY, "auto_map": {"AutoModel": "m.N"}}),
    "model whose weights are outside": _huggingface(TINY, model__safetensors__index__json=INDEX),
    "model whose weights run a command": _huggingface(TINY, pytorch_model__bin=pickle.dumps(Caller())),
    "model with giant layers": _huggingface({**TINY, "hidden_size": 1 << 30, "intermediate_size": 1 << 40}),
    "model of a class that is none": _huggingface({**TINY, "architectures": ["os.system"]}),
    "pipeline of classes that are none": Case(
        "HUGGINGFACE",
        lambda: {
            "model_index.json": json.dumps({"_class_name": "P", "unet": ["os", "system"], "vae": ["diffusers", "os"]}),
            "unet/config.json": "{}",
            "vae/config.json": json.dumps({"_class_name": "os"}),
        },
    ),
    "configs that build on each other": Case(
        "MMDETECTION",
        lambda: {"a.py": "_base_ = './b.py'\n", "b.py": "_base_ = './a.py'\n" + RETINANET, "c.pth": NO_CHECKPOINT},
    ),
    "config that imports what it uploads not": Case(
        "MMDETECTION",
        lambda: {"c.py": "custom_imports = dict(imports=['os'])\n" + RETINANET, "c.pth": NO_CHECKPOINT},
    ),
    "config of two mebibytes": Case(
        "MMDETECTION",
        lambda: {"c.py": RETINANET + "#" * (2 << 20), "c.pth": NO_CHECKPOINT},
    ),
    "YAMLs that build on each other": Case(
        "DETECTRON2",
        lambda: {"a.yaml": "_BASE_: b.yaml\n", "b.yaml": META + "_BASE_: a.yaml\n", "c.pth": NO_CHECKPOINT},
    ),
    "YAML that merges a mapping that runs a command": Case(
        "DETECTRON2",
        lambda: {
            "c.yaml": META + "x:\n  <<: !!python/object/apply:os.system ['touch PWNED']\n",
            "c.pth": NO_CHECKPOINT,
        },
    ),
    # These end the process that reads them, so they come last.
    "script nested deeply": _script(f"return {'(' * 200_000}x{')' * 200_000}"),
    "graph that doubles": Case("ONNX", _doubled),
}

SOUND: dict[str, Case] = {
    "script": _script("return torch.add(x, 1)"),
    "program": _program(),
    "graph with its weights beside it": _outside("w.bin", offset="0", length="16"),
    "frozen graph": _frozen(("y", "Identity", ("x",), {"T": FLOAT})),
    "convolution": _convolution("kernel_size: 1"),
}
"""Files that are made as those above, and read: what is refused of the others is the harm that they mean."""
