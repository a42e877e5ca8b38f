"""The one exception of the embedded stack."""


class LocalError(Exception):
    """A problem on this machine that keeps the stack from running; the message tells what to do."""
