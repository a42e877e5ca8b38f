"""Preprocessing that a package applies to its inputs, and the NumPy reference of its arithmetic.

Builders compute the same in other ways: `engines.graph.preprocessing` bakes nodes into the graph, torch networks run it
in torch. They take the channel axis and the checks from here, but not the arithmetic, so that the parity check tests
them against this reference.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from engines.failures import InvalidField
from engines.tensors import Array
from engines.tensors.shapes import format_shape


class Preprocessing(BaseModel, frozen=True):
    """Preprocessing of one input: reverse the channels, subtract the mean, divide by the scale, in this order.

    Attributes:
        mean_values: One value, or one per channel in the network's order; empty to subtract nothing.
        scale_values: One value, or one per channel; empty to divide by nothing.
        input_color: Channel order of the package's input, as the API names it.
        model_color: Channel order that the network takes.
    """

    mean_values: tuple[float, ...] = ()
    scale_values: tuple[float, ...] = ()
    input_color: str = "COLOR_ORDER_UNSPECIFIED"
    model_color: str = "COLOR_ORDER_UNSPECIFIED"

    @property
    def swaps_channels(self) -> bool:
        """Whether the package takes its channels in another order than the network."""
        unspecified = "COLOR_ORDER_UNSPECIFIED"
        return unspecified not in (self.input_color, self.model_color) and self.input_color != self.model_color

    @property
    def active(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.mean_values or self.scale_values) or self.swaps_channels


def preprocess(array: Array, steps: Preprocessing, dtype: str) -> Array:
    """Return an input as the network takes it, in the network's dtype; computed in float64 and rounded once."""
    if not steps.active:
        return array
    import numpy as np

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


def check_preprocessing(name: str, steps: Preprocessing, shape: Sequence[int]) -> None:
    """Refuse preprocessing that does not fit the channels of an input.

    Steps with one value for all channels fit every shape.

    Raises:
        InvalidField: The field within the input, such as `preprocessing.mean_values`.
    """
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


def _channel_counts(steps: Preprocessing) -> set[int]:
    """Return the numbers of channels that the steps need; empty if they fit any."""
    counts = {len(values) for values in (steps.mean_values, steps.scale_values) if len(values) > 1}
    return counts | ({3} if steps.swaps_channels else set())
