"""What is tried next, what goes on, when it is over. No Ray; of torch's side, costs alone."""
