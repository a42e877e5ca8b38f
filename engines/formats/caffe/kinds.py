"""The layers of Caffe by type: those that are read, and those that a trained net no longer needs."""

from __future__ import annotations

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthwise", "DepthwiseConvolution"})
"""Types of one layer: forks gave it a second name where each channel is a group."""

ALIASES = frozenset({"Split", "Dropout"})
"""Layers whose outputs are their input when the net is used."""

DATA = frozenset(
    {
        "AnnotatedData",
        "Data",
        "DummyData",
        "HDF5Data",
        "ImageData",
        "MemoryData",
        "VideoData",
        "WindowData",
    }
)
"""Layers that bring training data: what the rest of the net reads of them becomes an input."""

TRAINING = frozenset(
    {
        "Accuracy",
        "ContrastiveLoss",
        "DetectionEvaluate",
        "EuclideanLoss",
        "HDF5Output",
        "HingeLoss",
        "InfogainLoss",
        "MultiBoxLoss",
        "MultinomialLogisticLoss",
        "SigmoidCrossEntropyLoss",
        "Silence",
        "SmoothL1Loss",
        "SoftmaxWithLoss",
    }
)
"""Layers that judge the net in training: they are left out, and what they read becomes an output."""

COMPUTED = frozenset(
    {
        *CONVOLUTIONS,
        "AbsVal",
        "ArgMax",
        "BNLL",
        "BatchNorm",
        "Bias",
        "Clip",
        "Concat",
        "Crop",
        "Deconvolution",
        "DetectionOutput",
        "ELU",
        "Eltwise",
        "Embed",
        "Exp",
        "Flatten",
        "InnerProduct",
        "LRN",
        "Log",
        "Normalize",
        "PReLU",
        "Permute",
        "Pooling",
        "Power",
        "PriorBox",
        "ReLU",
        "ReLU6",
        "Reduction",
        "Reshape",
        "Scale",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Swish",
        "TanH",
        "Tile",
    }
)
"""Layers that compute something in the package."""

INPUT = "Input"
DETECTIONS = "DetectionOutput"
KNOWN = COMPUTED | ALIASES | DATA | TRAINING | {INPUT}

MANY = 10_000
BOTTOMS = {
    "Bias": (1, 2),
    "Concat": (1, MANY),
    "Crop": (2, 2),
    "DetectionOutput": (3, 3),
    "Eltwise": (2, MANY),
    "PriorBox": (2, 2),
    "Scale": (1, 2),
}
"""Fewest and most inputs of the layers that do not take exactly one."""
