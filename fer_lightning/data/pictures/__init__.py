"""From image files to canonical pictures, kept on disk, and what is known about each file."""
