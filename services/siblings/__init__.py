"""What services ask each other."""
