"""What the files that torch writes share: zip archives, and pickles that are read without running anything."""
