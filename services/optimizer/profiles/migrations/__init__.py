"""Tables of profiles."""
