"""What leaves the training machine."""
