"""What a package carries to run alone."""
