"""Datasets: their resources, the imports that fill them, and reading what they hold.

assembly → servicer → handlers, preview, selection, archive → imports, items → import_results → job → the rest
"""
