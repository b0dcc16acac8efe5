"""Speed as ratios of two ways in one run."""
