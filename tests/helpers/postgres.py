"""A PostgreSQL server of a test's own: a folder, a socket in it, a password, no port."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "ver%2Fy:s3cret"  # as a URL writes it: with characters that must be quoted there
PLAIN = "ver/y:s3cret"


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Its URL, of the database `postgres`; where PostgreSQL is not installed the test is skipped, and says so."""
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        pytest.skip("NO STUDY WAS SHARED THROUGH POSTGRESQL: no initdb here; apt-get install postgresql")
    pytest.importorskip("psycopg", reason="NO STUDY WAS SHARED THROUGH POSTGRESQL: pip install 'psycopg[binary]'")
    binaries = Path(found).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short, as a socket's path must be
    (folder / "password").write_text(PLAIN)
    as_owner: list[str] = []
    if os.geteuid() == 0:  # as which it refuses to run
        as_owner = ["runuser", "-u", "postgres", "--"]
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")

    def call(*command: str | Path) -> None:
        subprocess.run([*as_owner, *map(str, command)], check=True, capture_output=True, timeout=60, cwd="/")

    secret = ("--username=car", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
    control = [binaries / "pg_ctl", "--pgdata", folder / "data"]
    try:
        call(binaries / "initdb", *secret, "--no-sync", folder / "data")
        options = f"-c listen_addresses= -c fsync=off -k {folder}"
        call(*control, "--wait", "--log", folder / "log", "--options", options, "start")
        yield f"postgresql://car:{PASSWORD}@/postgres?host={folder}"
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            call(*control, "--mode", "immediate", "stop")
        shutil.rmtree(folder)
