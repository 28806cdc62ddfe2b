"""What is tried next, what goes on and why, and when a search ends. No Ray and no torch."""
