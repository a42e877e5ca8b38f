"""Preprocessing in TensorFlow, for a function that becomes a .tflite file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.tensors.preprocessing import Preprocessing, channel_axis

if TYPE_CHECKING:
    from engines.imaging import Nv12


def preprocessed(tf: Any, value: Any, steps: Preprocessing, dtype: str, shape: Sequence[int]) -> Any:
    """Return `engines.tensors.preprocessing.preprocess` of a tensor, computed in the network's dtype.

    Args:
        tf: The package `tensorflow`.
        value: An input of the package.
        steps: Its preprocessing.
        dtype: Element type of the network.
        shape: A shape of the package's input.
    """
    if not steps.active:
        return value
    value = tf.cast(value, dtype)
    if (nv12 := steps.nv12) is not None:
        value, axis, rank = _decoded(tf, value, nv12, steps), (3 if steps.channels_last else 1), 4
    else:
        axis, rank = channel_axis(steps, shape), len(shape)
    if steps.swaps_channels:
        value = tf.gather(value, [2, 1, 0], axis=axis)
    along = [-1 if position == axis else 1 for position in range(rank)]
    if steps.mean_values:
        value = value - tf.reshape(tf.constant(steps.mean_values, dtype), along)
    if steps.scale_values:
        value = value / tf.reshape(tf.constant(steps.scale_values, dtype), along)
    return value


def _decoded(tf: Any, rows: Any, colors: Nv12, steps: Preprocessing) -> Any:
    """Return `Nv12.decode`, as `engines.graph.nv12` computes it: chroma weighted before it is doubled."""
    bias, _, middle = colors.bias
    weights = colors.rows(steps.model_color)
    of_u, of_v = (tf.constant(column, rows.dtype) for column in weights[:, 1:].T)
    top, bottom, chroma = tf.split(rows, 3, axis=1)
    luma = (tf.concat([top, bottom], 1)[..., None] - bias) * float(weights[0, 0])
    chroma = chroma[..., None] - middle
    tint = chroma[:, :, 0::2] * of_u + chroma[:, :, 1::2] * of_v
    image = tf.clip_by_value(luma + tf.repeat(tf.repeat(tint, 2, 1), 2, 2), 0, 255)
    return image if steps.channels_last else tf.transpose(image, [0, 3, 1, 2])
