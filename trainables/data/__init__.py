"""Prepared data: images in memory-mapped tables, splits and digests, and how to make it."""
