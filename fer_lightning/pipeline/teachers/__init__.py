"""Runs made of several trainings of teachers: two stages, one source left out."""
