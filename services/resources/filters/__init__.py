"""`filter` of lists, as AIP-160 writes it: read, checked against a table of fields, then run as SQL or in Python."""
