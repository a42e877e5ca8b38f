"""The optimizer service and its worker: a model in, the fastest form of it that computes the same thing out."""
