"""Requests and templates, their rules, tolerances, and the catalog of devices."""
