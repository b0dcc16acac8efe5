"""An ensemble: its teachers, its weights, its figures, and its folder."""
