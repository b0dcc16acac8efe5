"""One adapter per data set: its own layout to manifest rows."""
