"""Layers of Caffe's first years in today's form: V0 (`layers { layer { … } }`) and V1 (`layers { … }`).

The rules are those of Caffe itself (src/caffe/util/upgrade_proto.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.failures import refused

_TYPES = {
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "ELTWISE": "Eltwise",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
"""Today's names of V1 types that are not the old one in CamelCase."""
_V0_TYPES = {
    "bnll": "BNLL",
    "conv": "Convolution",
    "euclidean_loss": "EuclideanLoss",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "softmax_loss": "SoftmaxWithLoss",
    "tanh": "TanH",
    "window_data": "WindowData",
}
_PADDING = "padding"

Layer = messages.LayerParameter | messages.V1LayerParameter


def kind_of(layer: Layer) -> str:
    """Return the type of a layer in today's name; empty if it has none."""
    if isinstance(layer, messages.LayerParameter):
        return layer.type
    if layer.HasField("layer"):
        return _V0_TYPES.get(layer.layer.type, layer.layer.type.capitalize())
    name = messages.V1LayerParameter.LayerType.Name(layer.type)
    return _TYPES.get(name) or "".join(part.capitalize() for part in name.split("_"))


def upgraded(layers: Sequence[tuple[Layer, int]]) -> list[tuple[messages.LayerParameter, int]]:
    """Return layers, each with its line, in today's form; those that only pad are part of the layer behind them.

    Raises:
        EngineFailure: INVALID_MODEL for a layer in a form that Caffe never had.
    """
    pads: dict[str, tuple[int, str]] = {}
    found: list[tuple[messages.LayerParameter, int]] = []
    for layer, line in layers:
        if isinstance(layer, messages.LayerParameter):
            found.append((layer, line))
            continue
        if layer.layer.type == _PADDING:
            pads.update((top, (layer.layer.pad, bottom)) for top, bottom in zip(layer.top, layer.bottom, strict=False))
            continue
        new = _from_v0(layer) if layer.HasField("layer") else _from_v1(layer)
        new.type = kind_of(layer)
        for index, bottom in enumerate(new.bottom):
            if bottom in pads:
                pad, new.bottom[index] = pads[bottom]
                _pad(new, pad, line)
        found.append((new, line))
    return found


def _from_v1(old: messages.V1LayerParameter) -> messages.LayerParameter:
    new = messages.LayerParameter(name=old.name, bottom=old.bottom, top=old.top)
    new.include.extend(old.include)
    new.exclude.extend(old.exclude)
    for field, value in old.ListFields():
        if field.name.endswith("_param"):
            getattr(new, field.name).CopyFrom(value)
    return new


def _from_v0(old: messages.V1LayerParameter) -> messages.LayerParameter:
    said = old.layer
    new = messages.LayerParameter(name=said.name, bottom=old.bottom, top=old.top)
    values: dict[str, Any] = {field.name: value for field, value in said.ListFields()}
    renamed = {"biasterm": "bias_term", "kernelsize": "kernel_size", "concat_dim": "concat_dim"}
    parts = {
        "conv": (new.convolution_param, ("num_output", "biasterm", "pad", "kernelsize", "group", "stride")),
        "innerproduct": (new.inner_product_param, ("num_output", "biasterm")),
        "pool": (new.pooling_param, ("pool", "pad", "kernelsize", "stride")),
        "lrn": (new.lrn_param, ("local_size", "alpha", "beta", "k")),
        "concat": (new.concat_param, ("concat_dim",)),
        "data": (new.transform_param, ()),
    }
    part, names = parts.get(said.type, (None, ()))
    for name in names:
        if part is not None and name in values:
            field = renamed.get(name, name)
            if part.DESCRIPTOR.fields_by_name[field].is_repeated:
                getattr(part, field).append(values[name])
            else:
                setattr(part, field, values[name])
    if said.cropsize:
        new.transform_param.crop_size = said.cropsize
    return new


def _pad(layer: messages.LayerParameter, pad: int, line: int) -> None:
    if layer.type == "Convolution":
        layer.convolution_param.pad[:] = [pad]
    elif layer.type == "Pooling":
        layer.pooling_param.pad = pad
    else:
        raise refused(
            f"The layer '{layer.name}' on line {line} reads a padding layer; Caffe pads convolutions and pooling only."
        )
