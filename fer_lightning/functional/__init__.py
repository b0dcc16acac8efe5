"""Pure mathematics: tensors in, tensors or frozen results out."""
