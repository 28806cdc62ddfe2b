"""What time_to_front.py and memory.py are made of."""
