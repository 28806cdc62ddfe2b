"""Models: their families, weights and blocks, and the files that they are written to."""
