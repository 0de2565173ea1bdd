"""Files that are written whole or not at all, and JSON without NaN."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import platform
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import InputError, last_line

_LOCKED_BYTE = 1 << 20


@contextlib.contextmanager
def whole_file(
    path: str | Path, *further: type[Exception], make_parents: bool = False
) -> Iterator[Path]:
    """A path beside ``path`` to write to; the file replaces ``path`` when the block ends.

    After an error the former file stays, and nothing else is left. Raises InputError in one line
    for an OSError, and for the ``further`` errors that mean that a file cannot be written.
    """
    path = Path(path)
    # the end of the name holds the suffix, and the whole might get too long
    partial = path.with_name(f".writing-{secrets.token_hex(4)}-{path.name[-40:]}")
    try:
        if make_parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except (OSError, *further) as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes, sync: bool = False) -> None:
    """Write a file as `whole_file` does; ``sync`` waits until the disk has it."""
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def write_text(path: str | Path, text: str, make_parents: bool = False) -> None:
    """Write a UTF-8 text file as `whole_file` does."""
    with whole_file(path, make_parents=make_parents) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(
    path: str | Path, value: Any, indent: int | None = 2, make_parents: bool = False
) -> None:
    """Write `plain` of ``value`` as `whole_file` does."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", make_parents)


@contextlib.contextmanager
def scratch(place: Path) -> Iterator[Path]:
    """A hidden folder in ``place``, which is made if need be; it is removed when the block ends.
    InputError in one line for an OSError."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=place))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise unwritable(place, error) from error


@contextlib.contextmanager
def whole_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``path`` when the block ends.

    After an error there is no ``path``, or the former one where the folder may ``replace`` it.
    Raises InputError as `whole_file` does.
    """
    with scratch(path.parent) as place:
        new, former = place / "new", place / "former"
        try:
            new.mkdir()
            yield new
            new.chmod(0o755)
            if replace and path.exists():
                path.rename(former)
            try:
                new.rename(path)
            except OSError:
                if former.exists():
                    former.rename(path)
                raise
        except InputError as error:
            raise InputError(str(error).replace(str(new), str(path))) from error
        except OSError as error:
            raise unwritable(path, error) from error


class Busy(Exception):
    """Another process holds the folder; the text names it."""


@contextlib.contextmanager
def held(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold an existing folder against other processes; raises Busy when one of them has it.

    The operating system ends it with the process, however that ends, so no lock gets stale. Where
    the file system has no locks nothing is held.
    """
    with (folder / name).open("a+", encoding="utf-8") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise Busy(file.read(200).strip() or "another process") from None
        except OSError:
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(_LOCKED_BYTE)  # beyond the text, which others may read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def plain(value: Any) -> Any:
    """``value`` as JSON gives it back: a dataclass becomes a dictionary, a tuple a list, a key a
    text, and NaN and infinity, which JSON lacks, null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unwritable(path: Path, error: Exception) -> InputError:
    """An error in writing ``path`` as one line for the user."""
    # NumPy gives a short write no `strerror`
    reason = getattr(error, "strerror", None) or last_line(error)
    return InputError(
        f"{path}: cannot be written ({reason}); check the folder, its permissions and the free "
        "space"
    )
