"""What a network is taught, and how its weights move: targets and losses, mixing, freezing, optimizers."""
