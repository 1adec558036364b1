"""The commands of `car-ext`, one a file: each parses, calls the library and prints."""
