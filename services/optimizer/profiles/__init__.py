"""Profiles: the second kind of task that the optimizer's process serves, with tables of its own."""
