"""Images as models and people see them: decoded, brought to a model's input, and drawn on.

An image is an array of bytes (rows, columns, channels) in the channel order blue, green, red, as OpenCV decodes it.
Values stay 0 to 255 all the way: mean and scale are part of a package's graph.
"""

from engines.imaging.decoding import MAX_PIXELS, SWAPPING, Array, Image, Size, decode, measure
from engines.imaging.drawing import DrawnBox, draw, encode_png
from engines.imaging.geometry import Geometry
from engines.imaging.inputs import as_input, steps_for
from engines.imaging.steps import Steps

__all__ = [
    "MAX_PIXELS",
    "SWAPPING",
    "Array",
    "DrawnBox",
    "Geometry",
    "Image",
    "Size",
    "Steps",
    "as_input",
    "decode",
    "draw",
    "encode_png",
    "measure",
    "steps_for",
]
