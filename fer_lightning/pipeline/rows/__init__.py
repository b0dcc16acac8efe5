"""The rows a verb works on: which they are, what is said of them, and which models have seen them."""
