"""Recipes and search spaces. Imports neither torch nor Ray."""
