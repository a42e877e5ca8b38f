"""Code that the formats of TensorFlow share."""

PACKAGES = ("tensorflow", "tensorflow-cpu", "tf2onnx")
MODULES = ("tensorflow", "tf2onnx")
"""Packages that read them."""
