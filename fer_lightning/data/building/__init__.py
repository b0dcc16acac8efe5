"""From rows of data sets to one clean manifest."""
