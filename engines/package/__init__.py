"""Packages: the results of tasks, which serving systems load."""
