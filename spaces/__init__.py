"""What can be searched: recipes and search spaces. Neither torch nor Ray."""
