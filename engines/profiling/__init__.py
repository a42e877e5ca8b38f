"""Profiles: how long a model takes in each runtime, how much it computes and needs, and which layers take the time."""
