"""PyTorch state dicts with their architectures."""
