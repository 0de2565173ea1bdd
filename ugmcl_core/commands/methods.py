"""`ugmcl methods`: what can be trained with, and when to take which."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..methods import Method

NAME = "methods"
HELP = "list the training methods"
DESCRIPTION = "List the methods that `ugmcl train --method` knows, with their papers and settings."
EPILOG = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only the form of the list."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Print the methods."""
    from ..methods import METHODS

    rows = [_row(name, kind) for name, kind in METHODS.items()]
    if arguments.json:
        print(json.dumps({"methods": rows}))
        return 0
    for row in rows:
        print(f"{row['name']}: {row['summary']}")
        print(f"    paper: {row['paper']} ({row['year']})")
        print(f"    needs: {', '.join(row['needs'])}")
        print(f"    take it for: {row['when']}")
        print(f"    settings: {', '.join(f'{k} {v}' for k, v in row['settings'].items()) or '-'}")
    return 0


def _row(name: str, kind: type[Method]) -> dict[str, Any]:
    needs = {
        "labelled volumes": True,
        "unlabelled volumes": kind.uses_unlabelled,
        "a teacher": kind.uses_teacher,
        "a distance head": kind.uses_distance,
    }
    return {
        "name": name,
        "summary": (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " "),
        "paper": kind.paper,
        "year": kind.year,
        "when": kind.when,
        "needs": [text for text, needed in needs.items() if needed],
        "settings": dataclasses.asdict(kind()),
    }
