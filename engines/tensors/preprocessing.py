"""Preprocessing that a package applies to its inputs, and the NumPy reference of its arithmetic.

Builders compute the same in other ways: `engines.graph.preprocessing` bakes nodes into the graph, torch networks run it
in torch. They take the channel axis and the checks from here, but not the arithmetic, so that the parity check tests
them against this reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from engines.failures import InvalidField
from engines.tensors import Array
from engines.tensors.shapes import Shape, format_shape

if TYPE_CHECKING:
    from engines.imaging import Nv12

NV12 = "NV12"
"""The colour order of NV12 images; see `engines.imaging.nv12`."""


class Preprocessing(BaseModel, frozen=True):
    """Preprocessing of one input: bring the channels in order, subtract the mean, divide by the scale, in this order.

    Attributes:
        mean_values: One value, or one per channel in the network's order; empty to subtract nothing.
        scale_values: One value, or one per channel; empty to divide by nothing.
        input_color: Channel order of the package's input, as the API names it.
        model_color: Channel order that the network takes.
        input_range: Range of the values of NV12 images, `NARROW` or `WIDE`; narrow if unspecified.
        input_matrix: Which standard's equations NV12 images follow, `BT601` or `BT709`; BT.601 if unspecified.
        channels_last: Whether the network takes NV12 images as (N, H, W, 3); their own shape does not tell.
            `ComponentInput.steps` finds it.
    """

    mean_values: tuple[float, ...] = ()
    scale_values: tuple[float, ...] = ()
    input_color: str = "COLOR_ORDER_UNSPECIFIED"
    model_color: str = "COLOR_ORDER_UNSPECIFIED"
    input_range: str = "COLOR_RANGE_UNSPECIFIED"
    input_matrix: str = "COLOR_MATRIX_UNSPECIFIED"
    channels_last: bool = False

    @property
    def takes_nv12(self) -> bool:
        """Whether the package takes NV12 images."""
        return self.input_color == NV12

    @property
    def nv12(self) -> Nv12 | None:
        """The colours of the NV12 images that the package takes; None if it takes none."""
        if not self.takes_nv12:
            return None
        from engines.imaging import Nv12

        return Nv12(self.input_range == "WIDE", "BT709" if self.input_matrix == "BT709" else "BT601")

    @property
    def swaps_channels(self) -> bool:
        """Whether the package takes its channels in the reverse order of the network's."""
        given = {self.input_color, self.model_color}
        return len(given) == 2 and given.isdisjoint({"COLOR_ORDER_UNSPECIFIED", NV12})

    @property
    def active(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.mean_values or self.scale_values) or self.swaps_channels or self.takes_nv12


def preprocess(array: Array, steps: Preprocessing, dtype: str) -> Array:
    """Return an input as the network takes it, in the network's dtype; computed in float64 and rounded once."""
    if not steps.active:
        return array
    import numpy as np

    if (nv12 := steps.nv12) is not None:
        value = nv12.decode(array, steps.model_color)
        value = np.moveaxis(value, 1, 3) if steps.channels_last else value
        axis = 3 if steps.channels_last else 1
    else:
        value = array.astype(np.float64)
        axis = channel_axis(steps, value.shape)
    if steps.swaps_channels:
        value = np.flip(value, axis)
    along = [-1 if position == axis else 1 for position in range(value.ndim)]
    if steps.mean_values:
        value = value - np.reshape(steps.mean_values, along)
    if steps.scale_values:
        value = value / np.reshape(steps.scale_values, along)
    return np.asarray(value, dtype, order="C")


def channel_axis(steps: Preprocessing, shape: Sequence[int]) -> int:
    """Return the channel axis: the second (NCHW) if it has as many channels as the steps have values, else the last."""
    count = max(_channel_counts(steps), default=1)
    return 1 if len(shape) > 1 and (count == 1 or shape[1] == count) else len(shape) - 1


def nv12_shape(shape: Shape, *, channels_last: bool) -> Shape:
    """Return the shape (N, 3H/2, W) of NV12 images for a network that takes (N, 3, H, W), or (N, H, W, 3)."""
    height, width = shape[1:3] if channels_last else shape[2:]
    return shape[0], height * 3 // 2, width


def check_preprocessing(name: str, steps: Preprocessing, shape: Sequence[int]) -> None:
    """Refuse preprocessing that does not fit the channels of an input.

    Steps with one value for all channels fit every shape.

    Raises:
        InvalidField: The field within the input, such as `preprocessing.mean_values`.
    """
    _check_colors(steps)
    if steps.takes_nv12 and len(shape) != 4:
        check_nv12_shape("shape", name, steps, shape)
    whose = f"input '{name}' of shape {format_shape(shape)}"
    if 0 in steps.scale_values:
        raise InvalidField("preprocessing.scale_values", f"{whose} has a scale value of 0, by which it is divided")
    counts = _channel_counts(steps)
    if len(counts) > 1:
        several = " and ".join(map(str, sorted(counts)))
        raise InvalidField("preprocessing", f"{whose} has preprocessing for {several} channels at once")
    if counts and (len(shape) < 2 or shape[channel_axis(steps, shape)] not in counts):
        values = {"mean_values": steps.mean_values, "scale_values": steps.scale_values}
        field = next((name for name, given in values.items() if len(given) > 1), "input_color")
        raise InvalidField(
            f"preprocessing.{field}",
            f"{whose} has no axis of {max(counts)} channels (second or last)",
            "Give one mean and one scale value, or one per channel; only 3 channels have a colour order.",
        )
    if steps.takes_nv12:
        check_nv12_shape("shape", name, steps, shape)


def check_nv12_shape(field: str, name: str, steps: Preprocessing, shape: Sequence[int]) -> None:
    """Refuse a shape of the network to which no NV12 image belongs; InvalidField naming the given field."""
    whose = f"input '{name}' of shape {format_shape(shape)} takes NV12 images"
    if len(shape) != 4:
        raise InvalidField(
            field,
            f"{whose} and has {len(shape)} axes",
            "Give the shape that the network takes, [1, 3, height, width] or [1, height, width, 3]; the package takes "
            "bytes [N, height * 3/2, width].",
        )
    axis = channel_axis(steps, shape)
    height, width = shape[2:] if axis == 1 else shape[1:3]
    if height % 2 or width % 2:
        raise InvalidField(
            field,
            f"{whose}, whose height and width are even, and not {height} by {width}",
            "Give even sizes: in NV12, two by two pixels share their chroma.",
        )


def _check_colors(steps: Preprocessing) -> None:
    if steps.model_color == NV12:
        raise InvalidField(
            "preprocessing.model_color",
            "networks take RGB or BGR; NV12 is an order of the package's input",
            "Give NV12 as input_color, and RGB or BGR as model_color.",
        )
    if steps.takes_nv12:
        if steps.model_color not in {"RGB", "BGR"}:
            raise InvalidField(
                "preprocessing.model_color",
                "NV12 images are turned into RGB or BGR, and model_color does not say into which",
                "Give the order that the network was trained on.",
            )
        return
    for field in ("input_range", "input_matrix"):
        if not getattr(steps, field).endswith("UNSPECIFIED"):
            raise InvalidField(
                f"preprocessing.{field}",
                "only NV12 images have it, and input_color is not NV12",
                "Leave it out, or give NV12 as input_color.",
            )


def _channel_counts(steps: Preprocessing) -> set[int]:
    """Return the numbers of channels that the steps need; empty if they fit any."""
    counts = {len(values) for values in (steps.mean_values, steps.scale_values) if len(values) > 1}
    return counts | ({3} if steps.swaps_channels or steps.takes_nv12 else set())
