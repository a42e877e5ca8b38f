"""TensorRT-RTX."""
