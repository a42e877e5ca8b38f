"""Source formats: one folder for each, and the tables of them."""
