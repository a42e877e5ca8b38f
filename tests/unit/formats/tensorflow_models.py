"""Models that TensorFlow wrote, for the readers of its formats."""

# mypy: disable-error-code="untyped-decorator"

from pathlib import Path
from typing import Any

import tensorflow as tf


class Network(tf.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        generator = tf.random.Generator.from_seed(1)
        self.dense = tf.Variable(generator.normal([4, 3]))
        self.kernel = tf.Variable(generator.normal([3, 3, 3, 8]))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def classify(self, x: Any) -> dict[str, Any]:
        logits = x @ self.dense
        return {"probs": tf.nn.softmax(logits), "logits": logits}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="image")])
    def convolve(self, image: Any) -> dict[str, Any]:
        return {"features": tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME"))}


class Constant(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def double(self, x: Any) -> dict[str, Any]:
        return {"y": x * 2}


class Python(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def call(self, x: Any) -> dict[str, Any]:
        return {"y": tf.numpy_function(lambda value: value * 2, [x], tf.float32)}


class Unsupported(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec([4, 4], tf.float32, name="x")])
    def invert(self, x: Any) -> dict[str, Any]:
        return {"y": tf.linalg.inv(x)}


class Counting(tf.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def add(self, x: Any) -> dict[str, Any]:
        self.count.assign_add(1.0)
        return {"y": x + self.count}


class Embedding(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def look_up(self, x: Any) -> dict[str, Any]:
        return {"y": tf.gather(tf.constant([1.0, 2.0, 3.0]), tf.cast(x, tf.int32))}


class SameKeys(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def scale(self, x: Any) -> dict[str, Any]:
        return {"x": x * 2, "x_2": x * 3}


class Trained(tf.Module):  # type: ignore[misc]
    """A network with an optimizer of a class that another process does not know, and its state."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.ones([4, 3]))
        self.optimizer = tf.compat.v1.train.AdamOptimizer()
        self.optimizer.apply_gradients([(tf.ones([4, 3]), self.weights)])

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def product(self, x: Any) -> dict[str, Any]:
        return {"y": x @ self.weights}


def _masked() -> Any:
    """A recurrent network over sequences of any length that end in padding."""
    import keras

    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(3))
    return keras.Sequential([keras.Input((None,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True), both])


def write_saved_models(folder: Path) -> None:
    """Write a SavedModel for each name below."""
    network, constant, python, unsupported = Network(), Constant(), Python(), Unsupported()
    counting, embedding, same_keys, trained = Counting(), Embedding(), SameKeys(), Trained()
    both = {"classify": network.classify, "convolve": network.convolve}
    saved: dict[str, Any] = {
        "default": (network, {**both, "serving_default": network.classify}),
        "several": (network, both),
        "constant": (constant, constant.double),
        "python": (python, python.call),
        "unsupported": (unsupported, unsupported.invert),
        "counting": (counting, counting.add),
        "embedding": (embedding, embedding.look_up),
        "same keys": (same_keys, same_keys.scale),
        "trained": (trained, trained.product),
    }
    for name, (model, signatures) in saved.items():
        tf.saved_model.save(model, str(folder / name), signatures=signatures)
    _masked().export(folder / "masked", verbose=False)


def write_frozen_graph(folder: Path) -> None:
    """Write `frozen.pb` and `frozen.pbtxt`: one input, a switch with a default, two results of one node."""
    graph = tf.Graph()
    v1 = tf.compat.v1
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        scale = v1.placeholder_with_default(tf.constant(2.0), [], name="scale")
        weights = tf.constant([[1.0, 2.0, 0.5], [3.0, 4.0, 0.5], [5.0, 6.0, 0.5], [7.0, 8.0, 0.5]])
        probs = tf.nn.softmax(tf.matmul(x, weights) * scale, name="probs")
        tf.math.top_k(probs, 2, name="best")
        tf.no_op(name="init")
    definition = graph.as_graph_def()
    (folder / "frozen.pb").write_bytes(definition.SerializeToString())
    (folder / "frozen.pbtxt").write_text(str(definition))
