"""Pictures that are copies of each other."""
