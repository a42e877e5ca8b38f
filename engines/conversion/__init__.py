"""Conversion: one component of a model, from its source to its package."""
