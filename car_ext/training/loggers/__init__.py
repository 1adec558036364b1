"""The loggers: each file holds one, as `LOGGER`, and is found by being here. Packages of services wait for use."""
