"""A manifest: its file, its rows and everything that can be wrong with them."""
