"""Models: where they come from, their weights and blocks, the files that they are written to."""
