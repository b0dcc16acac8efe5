"""Which rows make up a batch, how their pictures change, and what they teach."""
