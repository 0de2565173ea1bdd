"""Files that are written whole or not at all, and JSON without NaN."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import hashlib
import json
import math
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import InputError, last_line

_LOCKED_BYTE = 1 << 20
_SCRATCH, _HELD, _PLAN, _FORMER = ".writing-", ".held", ".plan", ".former"
_NEW = 60.0  # seconds within which a scratch folder may lack its lock
_AT_CWD, _EXCHANGE = -100, 2  # of renameat2; RENAME_SWAP of macOS is 2 as well


@contextlib.contextmanager
def whole_file(
    path: str | Path, *further: type[Exception], make_parents: bool = False
) -> Iterator[Path]:
    """A path to write to; the file replaces ``path`` when the block ends.

    After an error the former file stays, and nothing else is left. Raises InputError in one line
    for an OSError, and for the ``further`` errors that mean that a file cannot be written.
    """
    path = Path(path)
    try:
        if make_parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(path.parent) as folder:
            partial = folder / path.name
            yield partial
            # some libraries make files that only their owner can read
            partial.chmod(stat.S_IMODE((folder / _HELD).stat().st_mode))
            partial.replace(path)
    except (OSError, *further) as error:
        raise unwritable(path, error) from error


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
    """A hidden folder in ``place``, which is created if necessary. It is removed when the block
    ends, or by the next `sweep` of ``place`` if the process is killed. InputError in one line for
    an OSError."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _scratch(place) as folder:
            yield folder
    except OSError as error:
        raise unwritable(place, error) from error


@contextlib.contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """`scratch` in a folder that exists; raises OSError."""
    sweep(place)
    with contextlib.ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=place))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            with contextlib.suppress(Busy, FileNotFoundError):
                stack.enter_context(held(folder, _HELD))
                if (folder / _HELD).exists():
                    break  # otherwise another process has just swept the folder
        yield folder


@contextlib.contextmanager
def whole_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``path`` when the block ends.

    After an error or a kill there is no ``path``, or the former one where the folder may
    ``replace`` it. Raises InputError as `whole_file` does.
    """
    with scratch(path.parent) as work:
        new = work / path.name
        try:
            new.mkdir()
            yield new
            if replace and path.exists():
                exchange(work, path.parent, [path.name])
            else:
                new.rename(path)
        except InputError as error:
            raise InputError(str(error).replace(str(new), str(path))) from error
        except OSError as error:
            raise unwritable(path, error) from error


def exchange(
    work: Path, place: Path, names: Sequence[str], outdated: Sequence[str] = ()
) -> None:
    """Move the entries ``names`` from ``work``, a `scratch` folder of ``place``, into ``place``,
    and move former entries of these names, and the ``outdated`` ones, out of it.

    An error or Ctrl-C leaves all as it was. After a kill the next `sweep` moves the rest. Until
    then the first of ``names`` is missing, so that new and old entries are never mistaken for one
    set.
    """
    if len(names) == 1 and not outdated and _swap(work / names[0], place / names[0]):
        return
    former, plan = work / _FORMER, work / _PLAN
    former.mkdir()
    plan.write_text(json.dumps({"names": [*names], "outdated": [*outdated]}), encoding="utf-8")
    with contextlib.ExitStack() as undo:
        undo.callback(plan.unlink)

        def move(path: Path, target: Path) -> None:
            undo.callback(_move, target, path)
            _move(path, target)

        for name in (*names, *outdated):
            move(place / name, former / name)
        for name in reversed(names):
            move(work / name, place / name)
        undo.pop_all()
    plan.unlink()


def _finish(work: Path, place: Path) -> None:
    """Finish the `exchange` that a kill interrupted, if there was one."""
    try:
        plan = json.loads((work / _PLAN).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return  # nothing was moved yet
    names, outdated = plan["names"], plan["outdated"]
    if not all(Path(name).name == name for name in (*names, *outdated)):
        raise ValueError("not a plan of this program")
    for name in (*(n for n in names if os.path.lexists(work / n)), *outdated):
        _move(place / name, work / _FORMER / name)
    for name in reversed(names):
        _move(work / name, place / name)


def _move(path: Path, target: Path) -> None:
    """Rename an entry, if it is there."""
    if os.path.lexists(path):
        path.replace(target)


def _swap(one: Path, other: Path) -> bool:
    """Exchange two entries in one step, so that both names always exist; False where the system
    or the file system cannot."""
    if sys.platform not in ("linux", "darwin"):
        return False
    libc = ctypes.CDLL(None)
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        call, words = getattr(libc, "renamex_np", None), (*paths, _EXCHANGE)
    else:
        call = getattr(libc, "renameat2", None)
        words = (_AT_CWD, paths[0], _AT_CWD, paths[1], _EXCHANGE)
    return call is not None and call(*words) == 0


def sweep(place: Path) -> None:
    """Finish or remove what killed processes left in ``place``: `scratch` folders that nobody
    holds, their `exchange` finished first, and the temporary files of former versions."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in [e for e in entries if e.name.startswith((_SCRATCH, ".removed-"))]:
            _sweep(Path(entry.path), place)


def _sweep(left: Path, place: Path) -> None:
    try:
        if not _is_own(left):
            return
        if left.is_file():
            left.unlink()
        elif (left / _HELD).exists():
            with held(left, _HELD) as certain:
                if certain:
                    _finish(left, place)
                    shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(left, ignore_errors=not certain)  # Windows keeps an open file
        else:  # its owner may be about to create the lock, which comes first
            names = {path.name for path in left.iterdir()}
            is_old = time.time() - left.stat().st_mtime > _NEW
            if _HELD not in names and (names or is_old):
                shutil.rmtree(left, ignore_errors=True)
    except (OSError, ValueError, LookupError, TypeError, Busy):
        pass  # held, gone, or nothing that this process can remove


def _is_own(path: Path) -> bool:
    """Whether it belongs to this user and is not a link: anything else may have been planted."""
    status = path.lstat()
    return not stat.S_ISLNK(status.st_mode) and (
        not hasattr(os, "getuid") or status.st_uid == os.getuid()
    )


class Busy(Exception):
    """Another process holds the folder; the text names it."""


@contextlib.contextmanager
def held(folder: Path, name: str = ".lock") -> Iterator[bool]:
    """Hold an existing folder against other processes; raises Busy when one of them has it.

    The operating system releases the lock with the process, however that ends, so no lock gets
    stale. On a file system without locks nothing is held, and the result is False.
    """
    with open(folder / name, "a+", encoding="utf-8", opener=not_following) as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise Busy(file.read(200).strip() or "another process") from None
        except OSError:
            yield False
            return
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M")
        file.write(f"process {os.getpid()} on {platform.node()}, since {started}")
        file.flush()
        yield True


def not_following(path: str, flags: int) -> int:
    """An opener for `open` that refuses a link: OSError."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(_LOCKED_BYTE)  # beyond the text, which others may read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """``value`` as it would come back from JSON: a dataclass becomes a dictionary, a tuple a list,
    a key a string, and NaN and infinity, which JSON lacks, null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unwritable(path: Path, error: Exception) -> InputError:
    """A failure to write ``path`` as one line for the user."""
    # NumPy's error for a short write has no `strerror`
    reason = getattr(error, "strerror", None) or last_line(error)
    return InputError(
        f"{path}: cannot be written ({reason}); check the folder, its permissions and the free "
        "space"
    )
