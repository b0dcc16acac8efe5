"""Which rows belong on one side of a split, and what splits share."""
