"""`ugmcl computers`: test, install, clean, forget; other computers that work for this one over
ssh."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import Canceled, InputError

if TYPE_CHECKING:
    from ..remote.connection import Computer

NAME = "computers"
HELP = "test another computer that is to work for this one over ssh, or install ugmcl there"
DESCRIPTION = """\
Prepare another computer for --on. It is reached by this computer's own ssh client, with its keys,
agent, jump hosts and checks of host keys: `ssh COMPUTER` must work without a password.

  test COMPUTER      show its ugmcl, GPUs, memory and disk; if ugmcl is missing, what there is
  install COMPUTER   install ugmcl there, or update it to this version, in a private environment
                     (~/.ugmcl/environment, several GB with CUDA), after a question
  clean COMPUTER     remove the models and the ended trainings that ugmcl keeps there
  forget COMPUTER RUN
                     stop one training there, and remove it"""
EPILOG = """\
examples:
  ugmcl computers test me@gpu-box
  ugmcl computers install me@gpu-box
  ugmcl computers install cluster --python "module load python; python3" --system-packages
  ugmcl computers test cluster --on-command "module load python; ~/env/bin/ugmcl"
  ugmcl segment scan.nrrd --output results --on me@gpu-box"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action, a computer, and options."""
    parser.add_argument("action", metavar="ACTION", choices=list(_ACTIONS), help="see above")
    parser.add_argument(
        "computer", metavar="COMPUTER", help="user@host or a name of ~/.ssh/config"
    )
    parser.add_argument("run_there", metavar="RUN", nargs="?", help="forget: the training")
    parser.add_argument(
        "--on-command",
        default="",
        metavar="COMMAND",
        help="what starts ugmcl there (default: the private environment)",
    )
    parser.add_argument(
        "--python",
        default="",
        metavar="COMMAND",
        help="install: the Python there, 3.10 to 3.13 (default: the first that is found)",
    )
    parser.add_argument(
        "--pip",
        default="",
        metavar="OPTIONS",
        help="install: further options for pip there, such as --pip='--index-url ADDRESS' for "
        "another build of PyTorch, or --pip='--no-index --find-links FOLDER' without a network",
    )
    parser.add_argument(
        "--system-packages",
        action="store_true",
        help="install: use the packages that the Python there has, such as a cluster's PyTorch",
    )
    parser.add_argument("--yes", action="store_true", help="install, clean: without a question")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Do the action; 1 if a test finds no ugmcl."""
    from ..remote.connection import Computer

    if (arguments.run_there is None) == (arguments.action == "forget"):
        raise InputError(
            "forget needs a computer and a training; the other actions need only a computer"
        )
    computer = Computer(arguments.computer, arguments.on_command)
    return _ACTIONS[arguments.action](computer, arguments)


def _test(computer: Computer, arguments: argparse.Namespace) -> int:
    from ..remote import installation, session
    from ..remote.connection import NotInstalled

    began = time.monotonic()
    try:
        facts = session.about(computer)
    except NotInstalled as error:
        there = installation.look(computer)
        if arguments.json:
            python = there["python"]
            found = {**there, "python": None if python is None else vars(python)}
            _print_json({"installed": False, "message": str(error), **found})
        else:
            print("\n".join([f"{error}", *_lacking(there)]))
        return 1
    if arguments.json:
        seconds = round(time.monotonic() - began, 2)
        _print_json({"installed": True, "seconds": seconds, **facts})
    else:
        print("\n".join(_described(facts)))
        print(f"ready after {time.monotonic() - began:.1f} s")
    return 0


def _described(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"ugmcl {facts['version']}, Python {facts['python']}, PyTorch {facts['torch']}, "
        f"{facts['system']}",
        f"devices: {', '.join(d['text'] for d in facts['devices'])}",
    ]
    lines += [
        f"GPU memory: {g['name']}, {g['memory_mib'] / 1024:.1f} GiB, of which "
        f"{(g['memory_mib'] - g['used_mib']) / 1024:.1f} free"
        for g in facts["gpus"]
    ]
    lines.append(
        f"{facts['cpus']} CPU cores, {facts['memory_bytes'] / 2**30:.1f} GiB of memory, "
        f"{facts['free_bytes'] / 1e9:.1f} GB of disk free"
    )
    if facts["kept_bytes"]:
        size = facts["kept_bytes"] / 1e6
        lines.append(f"ugmcl keeps {size:.1f} MB of models and trainings in {facts['home']}")
    for row in facts["runs"]:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["started"]))
        lines.append(f"training {row['run']}: {row['state']}, started {began}")
    return lines


def _lacking(there: dict[str, Any]) -> list[str]:
    python, free = there["python"], there["free_bytes"]
    lines = ["there is no Python 3.10 to 3.13 with venv: install one, or name it with --python"]
    if python is not None:
        lines = [f"there is Python {python.version} ({python.path})"]
    lines += [f"GPU: {text}" for text in there["gpus"]]
    if free is not None:
        lines.append(f"{free / 1e9:.1f} GB of disk free")
    return lines


def _install(computer: Computer, arguments: argparse.Namespace) -> int:
    from ..remote import installation, session

    python = arguments.python
    if not python:
        found = installation.look(computer)["python"]
        if found is None:
            raise InputError(
                f"{computer.destination}: there is no Python 3.10 to 3.13 with venv: install one "
                "(Debian: python3-venv), or name it with --python"
            )
        python = shlex.quote(found.path)
    _confirm(
        f"Install ugmcl, PyTorch and what they need on {computer.destination}, with {python}, "
        "into a private environment (~/.ugmcl/environment; several GB with CUDA)?",
        arguments.yes,
    )
    stream = sys.stderr if arguments.json else sys.stdout
    installation.install(
        computer,
        python,
        lambda line: print(line, file=stream, flush=True),
        tuple(shlex.split(arguments.pip)),
        arguments.system_packages,
    )
    facts = session.about(computer)
    if arguments.json:
        _print_json({"installed": True, **facts})
    else:
        print("\n".join(_described(facts)))
    return 0


def _clean(computer: Computer, arguments: argparse.Namespace) -> int:
    from ..remote.session import Session

    text = f"Remove all models and ended trainings of ugmcl on {computer.destination}?"
    _confirm(text, arguments.yes)
    there = Session(computer)
    try:
        size = there.do("clean", "cleaned")["bytes"]
    finally:
        there.close()
    if arguments.json:
        _print_json({"bytes": size})
    else:
        print(f"{size / 1e6:.1f} MB were removed on {computer.destination}")
    return 0


def _forget(computer: Computer, arguments: argparse.Namespace) -> int:
    from ..remote import wire
    from ..remote.session import Session

    run = wire.run_name(arguments.run_there)
    there = Session(computer)
    try:
        there.do("forget", "forgotten", run=run)
    finally:
        there.close()
    if arguments.json:
        _print_json({"run": run})
    else:
        print(f"{run} was removed on {computer.destination}")
    return 0


_ACTIONS = {"test": _test, "install": _install, "clean": _clean, "forget": _forget}


def _confirm(question: str, agreed: bool) -> None:
    """Raise Canceled unless the user agrees, InputError if nobody can be asked."""
    if agreed:
        return
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask for confirmation: give --yes")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Canceled


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)
