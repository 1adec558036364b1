"""Links that leave `docs/`: to the repository, whose address `CAR_EXT_REPOSITORY` gives, or without it their text."""

import os
import re
from pathlib import PurePosixPath
from posixpath import normpath

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def on_config(config):
    config.repo_url = os.environ.get("CAR_EXT_REPOSITORY", "").rstrip("/")
    return config


def on_page_markdown(markdown, *, page, config, files):
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def resolved(link):
        text, target = link.groups()
        path = normpath(str(folder / target))
        if path.startswith("docs/"):
            return link[0]
        return f"[{text}]({config.repo_url}/blob/HEAD/{path})" if config.repo_url else text

    return LINK.sub(resolved, markdown)
