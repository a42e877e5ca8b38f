"""Channels and their releases: which package of a model serves, since when, by whose hand.

assembly → servicer → channels, history, machines → gate, reconciler → repository, rules → layout
"""
