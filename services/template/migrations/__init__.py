"""Tables of the template service."""
