"""Scores of other programs: read, checked, and joined with rows of a manifest."""
