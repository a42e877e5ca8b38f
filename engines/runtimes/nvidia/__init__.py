"""What the runtimes for NVIDIA's GPUs share."""

from engines.runtimes.nvidia.gpus import Gpu, gpu_for, missing_gpu

__all__ = ["Gpu", "gpu_for", "missing_gpu"]
