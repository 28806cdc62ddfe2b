"""Decides what is tried next, what goes on, and when to end. No Ray; of torch's side, only costs."""
