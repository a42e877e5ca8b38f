"""Times of forms: paired, interleaved, and each form in a process of its own."""
