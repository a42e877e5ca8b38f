"""ONNX Runtime on NVIDIA's GPUs."""
