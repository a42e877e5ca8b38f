"""The ground of every service: errors, settings, identity, interceptors, logs, telemetry, health."""
