"""One process of a service: what it is made from, its first seconds, and its server."""
