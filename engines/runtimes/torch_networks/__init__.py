"""Torch networks as several runtimes build from them."""
