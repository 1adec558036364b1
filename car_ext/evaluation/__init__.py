"""Models scored where they will run."""
