"""Tables of the optimizer."""
