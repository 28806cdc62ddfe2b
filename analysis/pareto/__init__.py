"""Fronts as arrays: domination, hypervolume, the knee, and how sure they are."""
