"""TorchInductor, ahead of time."""
