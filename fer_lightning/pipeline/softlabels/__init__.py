"""Soft labels: what they are exported of, their folder, and the checks that they are what they say."""
