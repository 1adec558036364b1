"""CAR's operators: loaded, seen by PyTorch, and in plain PyTorch."""
