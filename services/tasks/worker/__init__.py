"""The side of the task engine that does the work."""
