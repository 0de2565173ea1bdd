"""Models in repositories of Hugging Face, by the public addresses of their files.

``hf:OWNER/NAME@REVISION`` is a repository whose root holds a model's files, with
``/FOLDER`` behind it for a folder in it; REVISION is a commit, tag or branch (default: main). A
file's address is ``https://huggingface.co/OWNER/NAME/resolve/REVISION/FILE``
(huggingface.co/docs/hub, "Downloading models").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import downloads
from .card import ModelCard
from .model import CARD, WEIGHTS

HOST = "https://huggingface.co"
_SOURCE = re.compile(
    r"hf:(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w.-]+)*)/?"
)


@dataclass(frozen=True)
class Repository:
    """A model's place on the hub."""

    owner: str
    name: str
    revision: str = "main"
    folder: str = ""

    def address(self, file: str) -> str:
        """Where a file of the model is."""
        inside = f"{self.folder}/{file}" if self.folder else file
        return f"{HOST}/{self.owner}/{self.name}/resolve/{self.revision}/{inside}"


def is_named(source: str) -> bool:
    """Whether a model's source is written as one of the hub."""
    return source.startswith("hf:")


def parse(source: str) -> Repository:
    """The repository that ``source`` names; InputError for another form."""
    found = _SOURCE.fullmatch(source.strip())
    if found is None or ".." in source:
        raise InputError(f"{source}: write a model of Hugging Face as hf:OWNER/NAME@REVISION")
    return Repository(
        found["owner"], found["name"], found["revision"] or "main", found["folder"].strip("/")
    )


def fetch(
    repository: Repository,
    folder: Path,
    waiting: Path,
    sha256: str = "",
    progress: downloads.Progress = lambda done, total: None,
    opener: Callable[..., Any] | None = None,
) -> Path:
    """Download a model's card and weights into ``folder``; returns it.

    The weights are those of which the card holds the SHA-256; ``sha256`` is that of the weights
    too, for who got it another way. ``waiting`` keeps what broke off. Raises InputError.
    """
    more = {} if opener is None else {"opener": opener}
    address = repository.address(CARD)
    text = downloads.read_text(address, **more)
    card = ModelCard.from_json(text, address)
    if sha256 and card.sha256 != sha256.strip().lower():
        raise InputError(
            f"{address} is not what was announced (the SHA-256 of its weights differs): check the "
            "revision and the SHA-256"
        )
    weights = downloads.fetch(repository.address(WEIGHTS), card.sha256, waiting, progress, **more)
    (folder / CARD).write_text(text, encoding="utf-8")
    weights.replace(folder / WEIGHTS)
    return folder
