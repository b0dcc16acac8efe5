"""How a student learns from teachers: options, the term added to its loss, where teacher logits come from."""
