"""What a job computes with."""
