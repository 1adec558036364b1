"""The Hugging Face Hub: an export as a repository of a model there."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from car_ext.errors import InputError, first_line


class Hub:
    """A repository of the hub, checked before anything is written; `HF_TOKEN` or `hf auth login` says who one is.

    Args:
        repository: NAMESPACE/NAME.
        public: whether a repository that is created can be seen by all. One that exists stays as it is.

    Raises:
        InputError: another kind of name, no token or a refused one, or no connection.
    """

    def __init__(self, repository: str, public: bool = False) -> None:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils import validate_repo_id

        self.repository, self.public = repository, public
        try:
            validate_repo_id(repository)
        except ValueError as error:
            raise InputError(f"--push-to-hub {repository}: {first_line(error)}") from error
        if "/" not in repository:
            raise InputError(f"--push-to-hub {repository}: give NAMESPACE/NAME, your user name or organisation first.")
        if not get_token():
            raise InputError("--push-to-hub needs a token that may write: set HF_TOKEN, or run hf auth login.")
        self._api = HfApi(library_name="car-ext")
        self._ask("whoami")

    def push(self, files: Iterable[Path]) -> str:
        """Uploads files in one commit, under their names; the address of the repository.

        Raises:
            InputError: the hub refuses, or there is no connection any more.
        """
        from huggingface_hub import CommitOperationAdd

        added = [CommitOperationAdd(file.name, str(file)) for file in files]
        where = self._ask("create_repo", self.repository, private=not self.public, exist_ok=True)
        self._ask("create_commit", self.repository, added, commit_message="Upload with car-ext")
        return str(where)

    def _ask(self, what: str, *values: Any, **options: Any) -> Any:
        try:
            return getattr(self._api, what)(*values, **options)
        except Exception as error:  # of one of two HTTP libraries, by the version of huggingface_hub
            raise InputError(
                f"--push-to-hub {self.repository}: {self._api.endpoint} does not do it ({first_line(error)}); see to "
                "the token, its rights and the connection."
            ) from error
