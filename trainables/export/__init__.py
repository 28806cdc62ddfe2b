"""Turns a checkpoint into a file that runs elsewhere, and checks the file."""
