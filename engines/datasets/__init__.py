"""Datasets: annotated images, or tensors, read from files, indexed in Parquet, derived, selected and drawn."""
