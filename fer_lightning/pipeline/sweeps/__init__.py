"""Leaderboards, and sweeps: jobs that share work, and the table of what they made."""
