"""What any service stands on: errors, settings, identity, interceptors, logs, telemetry, health."""
