"""Ranking, metrics, validation, shortcuts and submission files."""
