"""Hugging Face directories: models of transformers, pipelines of diffusers."""
