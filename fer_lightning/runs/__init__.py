"""The only writer of run directories."""
