"""Where a study lies: a database, or a journal file on a disk that several machines share."""

import contextlib
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

from car_ext.errors import InputError

try:
    import optuna
    import sqlalchemy
    from optuna.storages.journal import JournalFileBackend
except ImportError:  # the extra `sweep`; whoever needs a storage asks `needed` first
    optuna = None  # type: ignore[assignment, unused-ignore]  # mypy sees a module, where it is installed
HEARTBEAT = 60  # seconds; a database takes a trial for dead after two without one
JOURNAL = "journal:"
# Which of its drivers SQLAlchemy takes differs from version to version.
DRIVERS = dict.fromkeys(("postgresql", "postgres"), "postgresql+psycopg")
TRIES = 20  # to make the tables of a new database, where many workers begin at once
_SECRET = re.compile(r"(?<=:)[^:@/]*(?=@)|(?<=password=)[^&\s]*", re.IGNORECASE)


def needed() -> None:
    """Refuse to go on without Optuna.

    Raises:
        InputError: it is not installed.
    """
    if optuna is None:
        raise InputError("a sweep needs Optuna, which is not installed; pip install 'car-ext[sweep]'.")


def journal_file(url: str | None) -> Path | None:
    """The file of a `journal:FILE`, None of any other storage."""
    return Path(url.removeprefix(JOURNAL)) if url and url.startswith(JOURNAL) else None


def masked(url: str) -> str:
    """The URL as it may be shown and written: with *** for a password."""
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return _SECRET.sub("***", url)
    return _SECRET.sub("***", parsed.render_as_string(hide_password=True))


def open_storage(url: str) -> "optuna.storages.BaseStorage":
    """Optuna's storage behind a URL, its tables made where they are missing.

    Args:
        url: `journal:FILE`, or a database's as SQLAlchemy reads it, such as `postgresql://user@host/name` or
            `sqlite:///FILE`.

    Raises:
        InputError: not a URL, no driver for it, or no database there. A password is in none of its sentences.
    """
    if (file := journal_file(url)) is not None:
        return _open_journal(file)
    parsed = _parse(url)
    for trial in range(TRIES):
        try:
            return optuna.storages.RDBStorage(
                parsed.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True},  # a trial may take hours; a network forgets what is silent
                heartbeat_interval=HEARTBEAT,
            )
        except (ImportError, sqlalchemy.exc.NoSuchModuleError):
            raise InputError(_no_driver(parsed)) from None
        except RuntimeError as error:  # of another version of Optuna
            raise InputError(f"--storage {masked(url)}: {_said(error, parsed)}") from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            # Another worker makes the tables at the same moment: then one of the two is told that they exist.
            if trial == TRIES - 1 or not re.search("exist|unique|duplicate|locked", str(error), re.IGNORECASE):
                raise InputError(f"--storage {masked(url)} cannot be opened: {_said(error, parsed)}") from None
            time.sleep(random.uniform(0.05, 0.5))
    raise AssertionError


@contextlib.contextmanager
def reached(url: str) -> Iterator[None]:
    """What goes wrong with a storage meanwhile is one sentence.

    Raises:
        InputError: the storage is out of reach.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause: BaseException | None = error  # Optuna's own clearing up may fail in turn
        while cause and not isinstance(cause, (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError)):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise InputError(
            f"{masked(url)} is out of reach: {_said(cause, _parse(url))}; what was trained is kept, and the same "
            "command goes on from there."
        ) from None


def _open_journal(file: Path) -> "optuna.storages.BaseStorage":
    if not file.name or not file.parent.is_dir() or file.is_dir():
        raise InputError(f"--storage {JOURNAL}{file}: give a file in a folder that exists, on a disk that all share.")
    try:
        return optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    except (OSError, ValueError) as error:  # json's is a ValueError
        raise InputError(f"--storage {JOURNAL}{file} cannot be used as a journal: {error}") from None


def _parse(url: str) -> "sqlalchemy.engine.URL":
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise InputError(
            f"--storage {masked(url)} is no storage: give postgresql://user@host/name, sqlite:///FILE, another "
            f"database of SQLAlchemy's, or {JOURNAL}FILE."
        ) from None
    return parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))


def _no_driver(url: "sqlalchemy.engine.URL") -> str:
    if url.get_backend_name() == "postgresql":
        return "--storage postgresql:// needs the driver psycopg, which is not installed; pip install 'car-ext[sweep]'."
    return (
        f"--storage {url.drivername}:// needs a driver that is not installed, or is no database that SQLAlchemy knows; "
        "for MySQL pip install pymysql and write mysql+pymysql://."
    )


def _said(error: BaseException, url: "sqlalchemy.engine.URL") -> str:
    """The first line of what a database said, without the password that it may repeat."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else None
    first = str(getattr(cause or error, "orig", None) or cause or error).strip().splitlines()[0]
    return first.replace(url.password, "***") if url.password else first
