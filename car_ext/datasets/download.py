"""Fetching a file that its publisher gives a checksum for."""

import hashlib
import http.client
import urllib.request
from pathlib import Path

from tqdm import tqdm

from car_ext.errors import InputError

CHUNK_BYTES = 1 << 20


def download_file(url: str, path: Path, md5: str) -> None:
    """Fetches url to path, which appears only once it is complete and has that md5.

    Raises:
        InputError: the file cannot be fetched or written, or is another one.
    """
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=60) as response, draft.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0) or None
            with tqdm(total=total, desc=path.name, unit="B", unit_scale=True, disable=None, leave=False) as bar:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url} cannot be fetched to {str(path)!r} ({error}): put the file there yourself") from error
    check_md5(draft, md5)
    draft.replace(path)


def check_md5(path: Path, md5: str) -> None:
    """Refuses a file that is not the published one.

    Raises:
        InputError: it has another md5.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise InputError(f"{str(path)!r} has the md5 {found}, not the published {md5}: delete it and fetch it again")
