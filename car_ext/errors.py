"""The one exception that means "the input is wrong", as opposed to "the code is wrong"."""


class InputError(ValueError):
    """Bad input: the message is one sentence that names the value, where it was found and how to fix it.

    The command-line scripts print it without a traceback and exit with code 2.
    """
