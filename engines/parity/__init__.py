"""Whether a form computes what its source computes, and where it begins to differ."""
