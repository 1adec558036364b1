"""Exit codes of the program."""

import os
import sys
from collections.abc import Callable

from car_ext.errors import InputError


def run(main: Callable[[], int | None]) -> int:
    """Runs a main function and returns its exit code, for `sys.exit(run(main))`.

    Returns:
        What main returned, 0 for None; 2 after an InputError or OSError, printed to stderr as one line;
        130 after Ctrl-C; 141 when the reader of stdout has gone, as `| head` does.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
        return code
    except InputError as error:
        if not _said_elsewhere(error):
            # With its end in one piece: several processes may write to the same terminal or file.
            sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit, which would fail again with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"error: {error}; check the path, its permissions and the free space.", file=sys.stderr)
        return 2


def _said_elsewhere(error: InputError) -> bool:
    """Whether another of a launcher's processes prints it; before they have met, that is the first of each machine."""
    return os.environ.get("LOCAL_RANK", "0") != "0" if error.silent is None else error.silent
