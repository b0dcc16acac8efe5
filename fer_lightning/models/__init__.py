"""Networks: pictures in, logits out."""
