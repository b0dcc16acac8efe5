"""The training of one network, teacher or student: its rows, its parts, its callbacks, its trainer."""
