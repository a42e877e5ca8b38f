"""The search: candidates are made, held to the truth, timed; the fastest that holds is chosen."""
