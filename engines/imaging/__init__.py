"""Images: decoding, preprocessing for a model's input, and drawing.

An image is an array of bytes (rows, columns, channels) in BGR order, as OpenCV decodes it. Values stay 0 to 255
throughout, because mean and scale are part of a package's graph.
"""

from engines.imaging.decoding import MAX_PIXELS, SWAPPING, Array, Image, Size, decode, measure
from engines.imaging.drawing import DrawnBox, draw, encode_png
from engines.imaging.geometry import Geometry
from engines.imaging.inputs import as_input, steps_for
from engines.imaging.nv12 import Nv12
from engines.imaging.steps import Steps

__all__ = [
    "MAX_PIXELS",
    "SWAPPING",
    "Array",
    "DrawnBox",
    "Geometry",
    "Image",
    "Nv12",
    "Size",
    "Steps",
    "as_input",
    "decode",
    "draw",
    "encode_png",
    "measure",
    "steps_for",
]
