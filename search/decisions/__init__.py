"""Decides what is tried next, what goes on, and when to end. No Ray, and of torch only costs."""
