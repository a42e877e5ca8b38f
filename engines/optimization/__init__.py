"""Finds the fastest form of a model that still computes what its source computes, and proves both."""
