"""The verbs, each read top to bottom, and rooms for what verbs are made of."""
