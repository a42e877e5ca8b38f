"""Trained models of other people, from pip packages, through every job of Lathe."""
