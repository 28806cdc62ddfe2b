"""How the search decides by what it knows: expected gain of the front, per second of training."""
