"""Migrations of a schema that only tests have."""
