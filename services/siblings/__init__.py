"""How services call each other."""
