"""The one exception that means "the input is wrong", as opposed to "the code is wrong", and hints for its message."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message is one sentence that names the value, where it was found and how to fix it.

    The command-line scripts print it without a traceback and exit with code 2.

    Attributes:
        silent: whether another process of the same job says it; None where nobody knows.
    """

    silent: bool | None = None


def first_line(error: Exception) -> str:
    """What a library says first about what it cannot do."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def closest(word: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?` where a known name is like `word`, else nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def suggest(word: str, known: Iterable[str]) -> str:
    """As `closest`, but where none is like `word` all are listed."""
    return closest(word, known) or f"; there are {', '.join(known)}."
