"""The command line: each module parses, calls one documented function, and prints."""
