"""One of the processes that share a study, and how the others see that it is alive."""

import os
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

FOLDER = ".workers"


class Worker:
    """A process that works on a study; within `with`, it holds a lock that the system lets go of when it is killed.

    A database's heartbeats say the same of a machine whose locks are not seen here, but later.

    Args:
        folder: where the locks lie.
        shared: whether other machines see the folder and its locks; else only those of our own machine are asked.
    """

    def __init__(self, folder: Path, shared: bool = False) -> None:
        self._folder, self._shared = folder / FOLDER, shared
        self.name = (socket.gethostname(), os.getpid(), uuid.uuid4().hex)

    def __enter__(self) -> "Worker":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._file(self.name))
        self._lock.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        self.forget(self.name)

    def is_dead(self, name: Sequence) -> bool:
        """Whether the worker of this name is known to have been killed."""
        if not (self._shared or name[0] == socket.gethostname()) or not self._file(name).exists():
            return False
        try:
            with FileLock(self._file(name), timeout=0):
                return True
        except Timeout:
            return False

    def forget(self, name: Sequence) -> None:
        """Take away the lock of a dead worker."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: Sequence) -> Path:
        return self._folder / f"{name[2]}.lock"
