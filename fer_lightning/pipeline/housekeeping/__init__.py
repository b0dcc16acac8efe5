"""A folder of runs kept in order."""
