"""Tables as services have them, for the tests of the resource store."""
