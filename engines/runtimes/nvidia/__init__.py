"""What the runtimes for NVIDIA's GPUs share."""
