"""The task engine: one implementation for every kind of task."""
