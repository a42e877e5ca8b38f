"""Files that packages carry to run without Lathe."""
