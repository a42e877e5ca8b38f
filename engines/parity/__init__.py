"""Parity of a form with its source: metrics, verdict, and the first diverging node."""
