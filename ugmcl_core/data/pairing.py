"""Lists of case names, as users keep them in text files."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from . import volume


def read_list(path: str | Path) -> list[str]:
    """The names in a list file: one a line, empty lines and # comments left out.

    Suffixes of image files are dropped. InputError if nothing can be read or a name is twice.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    names = [line.split("#", 1)[0].strip() for line in lines]
    names = [volume.stem(n) if n.lower().endswith(volume.SUFFIXES) else n for n in names if n]
    if not names:
        raise InputError(f"{path}: the list is empty")
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"{path}: {twice[0]} is there more than once; keep one line of each case")
    return names
