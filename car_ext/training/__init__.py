"""Training, resumed to the bit."""
