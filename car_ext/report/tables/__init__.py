"""The tables of a report of runs."""
