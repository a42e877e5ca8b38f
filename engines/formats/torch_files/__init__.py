"""Files that torch writes: zip archives, and pickles that are read without running anything."""
