"""Code that the formats of TensorFlow share."""

PACKAGES = ("tensorflow", "tensorflow-cpu", "tf2onnx")
"""Packages that read them."""
