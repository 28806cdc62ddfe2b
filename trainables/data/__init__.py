"""Prepared data: images in memory-mapped tables, splits, digests, and how they are made."""
