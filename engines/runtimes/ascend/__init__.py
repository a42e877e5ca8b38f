"""Ascend chips: ATC compiles for them, pyACL runs what it compiled."""
