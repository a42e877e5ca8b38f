"""Packages: what a task of Lathe hands over, and what serving systems load."""
