"""Errors that the panel shows as a message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ugmcl_core.errors import InputError


class PanelError(RuntimeError):
    """Its message explains the problem and what to do."""


@contextlib.contextmanager
def explaining(text: str = "", **values: object) -> Iterator[None]:
    """Turn an InputError of the block into a PanelError, and an OSError into one with this text,
    in which {why} is its reason. Without a text, an OSError stays as it is."""
    try:
        yield
    except InputError as error:
        raise PanelError(str(error)) from None
    except OSError as error:
        if not text:
            raise
        raise PanelError(text.format(**values, why=error.strerror or error)) from None
