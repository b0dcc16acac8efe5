"""A teacher's training: its parts, its callbacks, its trainer, and the runs made of several trainings."""
