"""The commands of `car-ext`, one a file: each adds its options, calls the library and prints.

A command is a module with a docstring (its description), `EXAMPLES` (what its `--help` ends with), `add_options` and
`run`. All that is slow to import is imported in these two, so that another command does not wait for it, and in `run`
where it can be, so that `--help` and a misspelt flag do not either.
"""
