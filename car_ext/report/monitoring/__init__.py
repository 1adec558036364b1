"""The page of a deployed model over time."""
