"""Removal of stored bytes that nobody refers to."""
