"""What a model takes and returns: signatures, shapes, the text of tensor information, preprocessing, samples."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Arrays = dict[str, Array]
    """Arrays by the name of their input or output."""
else:  # API processes read specifications, and do without NumPy's 11 MB
    Array = Arrays = Any
