"""The weights that each layer needs, held to those of the caffemodel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.formats.caffe.caffemodel import Blob
from engines.formats.caffe.failures import mismatched
from engines.formats.caffe.kinds import CONVOLUTIONS
from engines.formats.caffe.net import Net, Step
from engines.formats.caffe.parameters import axis_of, convolution
from engines.tensors import Array

Weights = Mapping[str, tuple[Blob, ...]]
_SHOWN = 10


def counted(step: Step) -> int:
    """Return how many blobs of weights a layer needs."""
    layer, alone = step.layer, len(step.bottoms) == 1
    if step.kind in CONVOLUTIONS or step.kind == "Deconvolution":
        return 1 + layer.convolution_param.bias_term
    if step.kind == "InnerProduct":
        return 1 + layer.inner_product_param.bias_term
    if step.kind == "Embed":
        return 1 + layer.embed_param.bias_term
    if step.kind == "Scale":
        return alone + layer.scale_param.bias_term
    if step.kind == "Bias":
        return int(alone)
    return {"BatchNorm": 3, "PReLU": 1, "Normalize": 1}.get(step.kind, 0)


def check_weights(net: Net, weights: Weights, file: str) -> None:
    """Refuse weights that lack a layer's blobs.

    Raises:
        EngineFailure: WEIGHTS_MISMATCH naming the layers.
    """
    needing = [step for step in net.steps if counted(step)]
    missing = [step for step in needing if len(weights.get(step.name, ())) < counted(step)]
    if not missing:
        return
    if len(missing) == len(needing) and weights.keys().isdisjoint(step.name for step in needing):
        raise mismatched(
            f"'{file}' holds the weights of another net: none of the {len(needing)} layers of '{net.file}' that need "
            "weights is in it.",
            evidence=f"The net has {_names([step.name for step in needing])}; the weights are of {_names([*weights])}.",
        )
    first = missing[0]
    have = len(weights.get(first.name, ()))
    raise mismatched(
        f"The {first.where} of '{net.file}' needs {counted(first)} blobs of weights, and '{file}' has {have or 'none'} "
        f"for it.",
        layer=first.name,
        evidence=f"Layers without their weights: {_names([step.name for step in missing])}.",
    )


def blobs_of(step: Step, weights: Weights, bottoms: Sequence[tuple[int, ...]]) -> list[Array]:
    """Return the weights of a layer, in the shapes that its inputs ask for.

    Args:
        step: The layer.
        weights: All weights, which `check_weights` passed.
        bottoms: Shapes of the layer's inputs.

    Raises:
        EngineFailure: WEIGHTS_MISMATCH for weights of another shape, INVALID_MODEL for parameters that do not fit.
    """
    shapes = needed_shapes(step, bottoms)
    found = weights.get(step.name, ())
    for index, (shape, blob) in enumerate(zip(shapes, found, strict=False)):
        if _trimmed(shape) != _trimmed(blob.shape):
            raise mismatched(
                f"The {step.where} needs weights of {_words(shape)}, and those of its name have {_words(blob.shape)}.",
                layer=step.name,
                evidence=f"Blob {index} of '{step.name}'; the layer reads {', '.join(map(_words, bottoms))}.",
            )
    return [blob.shaped(shape) for shape, blob in zip(shapes, found, strict=False)]


def needed_shapes(step: Step, bottoms: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the shapes of the weights of a layer whose inputs have these shapes.

    Raises:
        EngineFailure: INVALID_MODEL or WEIGHTS_MISMATCH for parameters that do not fit the inputs.
    """
    layer, bottom = step.layer, bottoms[0]
    if step.kind in CONVOLUTIONS or step.kind == "Deconvolution":
        said, window = layer.convolution_param, convolution(step, len(bottom))
        if bottom[1] % said.group or said.num_output % said.group:
            raise mismatched(
                f"The {step.where} has {said.group} groups, which {bottom[1]} channels in and {said.num_output} out "
                "cannot be divided into.",
                layer=step.name,
            )
        into, out = bottom[1], said.num_output
        ends = (into, out // said.group) if step.kind == "Deconvolution" else (out, into // said.group)
        return [(*ends, *window.kernel), *([(out,)] if said.bias_term else [])]
    if step.kind == "InnerProduct":
        product = layer.inner_product_param
        size = 1
        for extent in bottom[axis_of(step, product.axis, len(bottom)) :]:
            size *= extent
        matrix = (size, product.num_output) if product.transpose else (product.num_output, size)
        return [matrix, *([(product.num_output,)] if product.bias_term else [])]
    if step.kind == "Embed":
        embed = layer.embed_param
        return [(embed.input_dim, embed.num_output), *([(embed.num_output,)] if embed.bias_term else [])]
    if step.kind in {"Scale", "Bias"}:
        return [_covered(step, bottoms)] * counted(step)
    channels = (bottom[1] if len(bottom) > 1 else 1,)
    if step.kind in {"PReLU", "Normalize"}:
        shared = layer.prelu_param.channel_shared if step.kind == "PReLU" else layer.norm_param.channel_shared
        return [(1,) if shared else channels]
    return [channels, channels, (1,)] if step.kind == "BatchNorm" else []


def _covered(step: Step, bottoms: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of what a Scale or Bias applies: the axes from its own on."""
    said = step.layer.scale_param if step.kind == "Scale" else step.layer.bias_param
    if len(bottoms) > 1:
        return bottoms[1]
    first = axis_of(step, said.axis, len(bottoms[0]))
    return bottoms[0][first:] if said.num_axes == -1 else bottoms[0][first : first + said.num_axes]


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the ones in front: old files pad every shape to four axes."""
    for index, extent in enumerate(shape):
        if extent != 1:
            return shape[index:]
    return ()


def _words(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one value"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
