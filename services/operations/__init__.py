"""Work of a service that takes longer than a call: it goes on alone, is watched, and outlives its process."""
