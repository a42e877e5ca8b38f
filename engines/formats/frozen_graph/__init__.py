"""Frozen graphs of TensorFlow."""
