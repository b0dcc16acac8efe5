"""A student's teachers: opened, verified and joined with its rows before anything is trained."""
