"""`ugmcl methods`: the training methods, and when to use each."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..methods import Method as MethodType

NAME = "methods"
HELP = "list the training methods and their options"
DESCRIPTION = """\
List the methods that `ugmcl train --method` knows, with their papers; with METHOD, that one alone
and the options that `ugmcl train --option NAME=VALUE` sets."""
EPILOG = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The methods to show, and the format."""
    parser.set_defaults(several="methods")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="show this one's options")
    parser.add_argument(
        "--options", action="store_true", help="show the options of all methods, with the list"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Print the methods."""
    from ..methods import METHODS

    chosen = arguments.methods
    if unknown := [name for name in chosen if name not in METHODS]:
        raise InputError(f"unknown method {unknown[0]!r}; known are {', '.join(METHODS)}")
    rows = [_row(METHODS[name]) for name in chosen or METHODS]
    if arguments.json:
        print(json.dumps({"methods": rows}))
        return 0
    for row in rows:
        print(f"{row['name']}: {row['summary']}")
        print(f"    paper: {row['paper']} ({row['year']})")
        print(f"    needs: {', '.join(row['needs'])}")
        print(f"    use it for: {row['when']}")
        if not chosen and not arguments.options:
            print(f"    options: {', '.join(row['settings']) or '-'}")
            continue
        for option in row["options"]:
            default = json.dumps(option["default"]).strip('"')
            print(f"    --option {option['name']}={default}  ({option['allowed']})")
            print(f"        {option['text']}")
    return 0


def _row(kind: type[MethodType]) -> dict[str, Any]:
    from ..methods import Method
    from ..methods.options import options

    method = kind()
    needs = {
        "labeled volumes": True,
        "unlabeled volumes": method.uses_unlabeled,
        "a teacher": method.uses_teacher,
        "a distance head": method.uses_distance,
        "a module trained along": kind.auxiliary is not Method.auxiliary,
    }
    return {
        "name": kind.name,
        "summary": (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " "),
        "paper": kind.paper,
        "year": kind.year,
        "when": kind.when,
        "needs": [text for text, needed in needs.items() if needed],
        "settings": dataclasses.asdict(method),
        "options": [dataclasses.asdict(o) for o in options(kind)],
    }
