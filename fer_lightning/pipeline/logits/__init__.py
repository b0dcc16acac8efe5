"""The logits of models on rows: looked up where they are stored, else inferred in one pass and stored."""
