"""The formats: each file holds one, as `FORMAT`, and is found by being here. What is slow to import waits for use."""
