"""Many runs: methods side by side, and sweeps."""
