"""What is judged, and what it is held against."""
