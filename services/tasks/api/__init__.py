"""The side of the task engine that answers calls and follows the events of workers."""
