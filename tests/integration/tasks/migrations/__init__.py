"""The schema of a service that has tasks and nothing else."""
