"""The one exception of the embedded stack."""


class LocalError(Exception):
    """Something on this machine keeps the stack from running; the text says what, where, and what to do."""
