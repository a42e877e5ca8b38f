"""What a model takes and returns: signatures, shapes, the text of tensor information, preprocessing, samples."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
"""Arrays by the name of their input or output."""
