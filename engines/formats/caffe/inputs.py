"""The inputs of a net: those that it states, and what it reads of layers that bring training data."""

from __future__ import annotations

from collections.abc import Iterator

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.kinds import INPUT

Extents = tuple[int | None, ...]
"""Extents of an input; None for one that the text leaves open."""


def stated_inputs(head: messages.NetParameter) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Yield the inputs that stand outside of layers, with `input_shape`, or four of `input_dim` for each."""
    for index, name in enumerate(head.input):
        if index < len(head.input_shape):
            yield name, tuple(head.input_shape[index].dim)
        else:
            yield name, tuple(head.input_dim[4 * index : 4 * index + 4]) or None


def brought_by(layer: messages.LayerParameter) -> Iterator[tuple[str, Extents | None]]:
    """Yield what an input layer or a layer of training data brings, and the shape of the first, the image."""
    shapes: list[Extents] = []
    crop = layer.transform_param.crop_size
    if layer.type == INPUT:
        shapes = [tuple(shape.dim) for shape in layer.input_param.shape]
        shapes = shapes * len(layer.top) if len(shapes) == 1 else shapes
    elif layer.type == "DummyData":
        shapes = [tuple(shape.dim) for shape in layer.dummy_data_param.shape]
    elif layer.type == "MemoryData":
        said = layer.memory_data_param
        shapes = [(None, said.channels or None, said.height or None, said.width or None)]
    elif layer.type in {"Data", "ImageData"}:
        image = layer.image_data_param
        shapes = [(None, None, crop or image.new_height or None, crop or image.new_width or None)]
    for index, top in enumerate(layer.top):
        yield top, shapes[index] if index < len(shapes) else None
