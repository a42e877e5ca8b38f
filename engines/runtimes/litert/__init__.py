"""LiteRT: known to the catalog of devices; this release builds nothing for it."""
