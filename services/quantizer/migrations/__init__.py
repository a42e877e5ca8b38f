"""Tables of the quantizer."""
