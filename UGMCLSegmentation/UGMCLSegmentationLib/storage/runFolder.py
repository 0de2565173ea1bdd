"""The folders of fine-tuning runs, from which a run can be resumed, even in another session.

A run's folder is private to the user. It holds `request.json` (the worker's request, and facts for
the report), `cases.json` with copies of the scene's cases in `cases` (removed when the run
completes), the worker's checkpoint, `metrics.jsonl`, and at the end `result.json`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ugmcl_core import files
from UGMCLSegmentationLib.errors import PanelError, explaining
from UGMCLSegmentationLib.storage import temporaryFolders, userFolder

REQUEST, RESULT, METRICS, OWNER = "request.json", "result.json", "metrics.jsonl", "owner"
CASES, CASE_LIST = "cases", "cases.json"
_CACHE = "cache"  # the worker's copies of the cases
_NAME = re.compile(r"\d{8}-\d{6}-")  # what create() makes
_PATIENCE = 3600.0  # seconds; writing the cases takes minutes


@dataclass(frozen=True)
class ResumableRun:
    """A run that is not complete: the worker's `request`, and `about`, the facts for the report
    (date, base, cases)."""

    folder: Path
    request: dict[str, Any]
    about: dict[str, Any]

    @property
    def text(self) -> str:
        return _("{name}, {date}").format(name=self.request["name"], date=self.about["date"])


def create(name: str) -> Path:
    """A new folder for a run. Raises PanelError."""
    stem = re.sub(r"[^\w.-]+", "-", name) or "run"
    place = userFolder.runs()
    for number in range(1, 1000):
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = place / (f"{stamp}-{stem}" + (f"-{number}" if number > 1 else ""))
        with explaining(_("The folder {folder} cannot be made: {why}."), folder=folder):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                continue
            (folder / CASES).mkdir(mode=0o700)
        claim(folder)
        return folder
    raise PanelError(_("There are too many runs in {folder}.").format(folder=place))


def claim(folder: Path) -> None:
    """Mark the run as this process's, so that no other one resumes it. Raises PanelError."""
    if isTaken(folder):
        raise PanelError(_("Another Slicer works on this run: wait for its end."))
    write(folder / OWNER, str(os.getpid()))


def release(folder: Path) -> None:
    (folder / OWNER).unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Write a file that is whole or absent. Raises PanelError."""
    with explaining():
        files.write_text(path, text)


def save(run: ResumableRun) -> None:
    """From now on the run can be resumed."""
    content = {"request": run.request, "about": run.about}
    write(run.folder / REQUEST, json.dumps(content, indent=1))


def unfinished() -> list[ResumableRun]:
    """The runs that can be resumed, newest first, without those of other running Slicers."""
    return [run for folder in reversed(folders()) if (run := _read(folder)) is not None]


def folders() -> list[Path]:
    """The folders of all runs, oldest first."""
    try:
        return _entries(userFolder.runs())
    except PanelError:
        return []


def _read(folder: Path) -> ResumableRun | None:
    if (folder / RESULT).exists() or not (folder / REQUEST).is_file() or isTaken(folder):
        return None
    try:
        content = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        request = {
            **content["request"],
            "resume": True,
            "output": str(folder),  # the user's folder may have been moved
            "case_list": str(folder / CASE_LIST),
        }
        run = ResumableRun(folder, request, content["about"])
        return run if run.text and isinstance(request["base"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not a run, or one whose start failed


def isTaken(folder: Path) -> bool:
    """Whether another Slicer works on the run."""
    owner = _owner(folder)
    return owner is not None and owner != os.getpid()


def _owner(folder: Path) -> int | None:
    """The process ID of the run's owner if that is alive."""
    try:
        owner = int((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return owner if temporaryFolders.isAlive(owner) else None


def addMetrics(folder: Path, event: dict[str, Any]) -> None:
    """Store an event, for the curves after the run is resumed."""
    line = json.dumps({key: event.get(key) for key in ("step", "losses", "dice", "classes")})
    try:
        with open(folder / METRICS, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        pass  # the curves then start at the resumed step


def metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The stored events, up to the first damaged one."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            return


def complete(folder: Path, result: dict[str, Any]) -> None:
    """Store the result and remove the copies of the cases, which are patient data."""
    write(folder / RESULT, json.dumps(result, indent=1))
    _removeCases(folder)
    release(folder)


def discard(folder: Path) -> None:
    """Delete the run: patient data first and the request, which makes it resumable, last, in case
    this is interrupted."""
    _removeCases(folder)
    for path in _entries(folder):
        if path.name != REQUEST:
            _remove(path)
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove what a crashed Slicer left behind: incomplete runs, and cases of finished runs.

    A run without a request stays for an hour: its owner may be on another computer.
    """
    for folder in folders():
        if not _NAME.match(folder.name) or _owner(folder) is not None:
            continue
        if (folder / RESULT).exists():
            _removeCases(folder)
        elif not (folder / REQUEST).exists() and _age(folder) > _PATIENCE:
            discard(folder)


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0  # just removed


def _removeCases(folder: Path) -> None:
    for name in (CASES, _CACHE, CASE_LIST):
        _remove(folder / name)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass  # another process holds it, or removed it


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
