"""What Python users call without any service: models in memory or on disk in, callables out."""
