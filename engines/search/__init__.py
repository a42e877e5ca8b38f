"""The search: candidates are made, compared with the source and timed; the fastest correct one is chosen."""
