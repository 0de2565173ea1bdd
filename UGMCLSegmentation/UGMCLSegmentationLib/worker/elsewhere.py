"""What trainings left on other computers."""

from __future__ import annotations

import logging
from pathlib import Path

from UGMCLSegmentationLib.storage import computers
from UGMCLSegmentationLib.worker.child import Child, Ending, pythonExecutable

_children: set[Child] = set()


def computerOf(folder: Path) -> str:
    """The computer that runs the training of this folder, "" if it is here."""
    record = _record(folder)
    return record.computer if record is not None else ""


def _record(folder: Path):
    from ugmcl_core.remote.trainings import Record

    return Record.read(folder)


def forget(folder: Path) -> None:
    """Stop the training of this folder on the computer that runs it, and remove it there, in
    a process of its own. One that cannot be reached keeps it until *Clean up*."""
    record = _record(folder)
    if record is None:
        return
    command = computers.find(record.computer).command
    more = [f"--on-command={command}"] if command else []
    words = ["computers", "forget", record.computer, record.run, *more]
    held: list[Child] = []

    def ended(ending: Ending) -> None:
        _children.difference_update(held)
        if ending.code or ending.signal:
            logging.warning("UGMCL Segmentation: %s", ending.lastWords)

    program = [pythonExecutable(), "-m", "ugmcl_core", *words]
    held.append(Child(program, lambda line: None, ended))
    if held[0].running:
        _children.update(held)
