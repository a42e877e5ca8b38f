"""The evaluator service and its worker: how good a version is, on which data, and how fast."""
