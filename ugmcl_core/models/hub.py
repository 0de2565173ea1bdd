"""Models in repositories of Hugging Face, by the public addresses of their files.

``hf:OWNER/NAME@REVISION`` is a repository whose root holds a model's files, with
``/FOLDER`` behind it for a folder in it; REVISION is a commit, tag or branch (default: main). A
file's address is ``https://huggingface.co/OWNER/NAME/resolve/REVISION/FILE``
(huggingface.co/docs/hub, "Downloading models"). A large file is stored by its SHA-256, which is in
the text at ``.../raw/REVISION/FILE`` (the pointer of git-lfs).
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
from .foreign import monai_bundle, nnunet
from .model import CARD, WEIGHTS

HOST = "https://huggingface.co"
_SOURCE = re.compile(
    r"hf:(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w.-]+)*)/?"
)


_POINTER = re.compile(r"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class _Layout:
    """The files of another program's model: texts, the first of which identifies it while the
    others may be missing, and weights."""

    texts: tuple[str, ...]
    weights: tuple[str, ...]


_FOREIGN = (
    _Layout(
        tuple(p.as_posix() for p in (*monai_bundle.TEXTS, *monai_bundle.LICENSES)),
        (monai_bundle.WEIGHTS.as_posix(),),
    ),
    _Layout(
        (nnunet.PLANS, nnunet.DATASET),
        tuple(f"fold_{k}/{nnunet.CHECKPOINT}" for k in (*range(5), "all")),
    ),
)


@dataclass(frozen=True)
class Repository:
    """A model's place on the hub."""

    owner: str
    name: str
    revision: str = "main"
    folder: str = ""

    def __str__(self) -> str:
        folder = f"/{self.folder}" if self.folder else ""
        return f"hf:{self.owner}/{self.name}@{self.revision}{folder}"

    def address(self, file: str, kind: str = "resolve") -> str:
        """The address of a file of the model; with the ``kind`` raw, of the text that the
        repository stores for it."""
        inside = f"{self.folder}/{file}" if self.folder else file
        return f"{HOST}/{self.owner}/{self.name}/{kind}/{self.revision}/{inside}"


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
    """Download a model, or what `foreign` converts to one, into ``folder``; returns it.

    The weights must have the SHA-256 in the card or, for a model of another program, in the
    repository; ``sha256`` is an additional one to compare them with. ``waiting`` keeps interrupted
    downloads. Raises InputError.
    """
    more = {} if opener is None else {"opener": opener}

    def text_of(file: str, kind: str = "resolve") -> str | None:
        try:
            return downloads.read_text(repository.address(file, kind), **more)
        except downloads.Absent:
            return None

    card = text_of(CARD)
    if card is not None:
        texts = {CARD: card}
        sums = {WEIGHTS: ModelCard.from_json(card, repository.address(CARD)).sha256}
    else:
        texts, sums = _foreign(repository, text_of)
    if sha256 and sha256.strip().lower() not in sums.values():
        raise InputError(
            f"{repository} is not what was announced (the SHA-256 of its weights differs): check "
            "the revision and the SHA-256"
        )
    for file, text in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    for file, announced in sums.items():
        weights = downloads.fetch(repository.address(file), announced, waiting, progress, **more)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        weights.replace(folder / file)
    return folder


def _foreign(
    repository: Repository, text_of: Callable[..., str | None]
) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of a model of another program, and the SHA-256 of each file of weights."""
    for layout in _FOREIGN:
        texts = {layout.texts[0]: text_of(layout.texts[0])}
        if texts[layout.texts[0]] is None:
            continue
        texts |= {file: text_of(file) for file in layout.texts[1:]}
        sums = {}
        for file in layout.weights:
            pointer = text_of(file, "raw")
            if pointer is not None:
                found = _POINTER.search(pointer)
                if found is None:
                    raise InputError(
                        f"{repository}: {file} is stored without a SHA-256, so it cannot be "
                        "checked: get the files another way, and import their folder"
                    )
                sums[file] = found[1]
        return {file: text for file, text in texts.items() if text is not None}, sums
    raise InputError(
        f"{repository} holds no model of this program, no bundle of MONAI and no results of "
        "nnU-Net (the server answered 404): check its name and its revision"
    )
