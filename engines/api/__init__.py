"""The entry of each job, which workers run, and `optimize()` for Python users without any service."""
