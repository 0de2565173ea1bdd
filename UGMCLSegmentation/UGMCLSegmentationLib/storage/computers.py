"""The other computers that the user added, in Slicer's settings, and where a device is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import slicer

from ugmcl_core.errors import InputError
from ugmcl_core.remote.connection import Computer
from UGMCLSegmentationLib.errors import explaining

KEY = "UGMCLSegmentation/Computers"


@dataclass(frozen=True)
class KnownComputer:
    """A computer as ssh names it, the command that starts ugmcl there (empty: the private
    environment), what its last test found, and whether the user agreed to send images there."""

    destination: str
    command: str = ""
    state: str = ""
    devices: tuple[tuple[str, str], ...] = ()  # name and text
    isAgreed: bool = False


def split(device: str) -> tuple[str, str]:
    """The device and the destination of a value of *Device*; "" of this computer."""
    name, _, destination = device.partition("@")
    return name, destination


def joined(device: str, destination: str) -> str:
    """The value of *Device* for a device of another computer."""
    return f"{device}@{destination}"


def listing() -> list[KnownComputer]:
    """The user's computers, in the order they were added."""
    try:
        rows = json.loads(str(slicer.app.settings().value(KEY, "") or "[]"))
        return [_known(row) for row in rows]
    except (ValueError, TypeError, KeyError, InputError):
        return []  # damaged settings


def _known(row: dict[str, Any]) -> KnownComputer:
    Computer(row["destination"], row["command"])  # raises InputError
    devices = tuple((str(name), str(text)) for name, text in row["devices"])
    return replace(KnownComputer(**row), devices=devices)


def find(destination: str) -> KnownComputer:
    """The computer of that name; one that is not in the list is taken as it is."""
    known = next((c for c in listing() if c.destination == destination), None)
    return known or KnownComputer(destination)


def save(computer: KnownComputer) -> None:
    """Add a computer, or replace the one of the same name. Raises PanelError for what cannot be
    one."""
    with explaining():
        Computer(computer.destination, computer.command)
    known = listing()
    names = [c.destination for c in known]
    if computer.destination in names:
        known[names.index(computer.destination)] = computer
    else:
        known.append(computer)
    _write(known)


def remove(destination: str) -> None:
    _write([c for c in listing() if c.destination != destination])


def _write(known: list[KnownComputer]) -> None:
    slicer.app.settings().setValue(KEY, json.dumps([asdict(c) for c in known]))


def words(destination: str) -> list[str]:
    """The arguments of ugmcl that let this computer do the work; none for the one here."""
    if not destination:
        return []
    command = find(destination).command
    return ["--on", destination, *([f"--on-command={command}"] if command else [])]
