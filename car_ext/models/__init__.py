"""Classifiers that take the stored image."""
