"""`ugmcl worker`: the process behind the Slicer panel."""

from __future__ import annotations

import argparse

from ..errors import InputError
from .arguments import add_on, computer_of

NAME = "worker"
HELP = "serve requests as JSON lines (used by the Slicer panel)"
DESCRIPTION = """\
Read one JSON request per line on stdin and write one JSON event per line on stdout, as
docs/architecture.md describes; the model stays loaded between requests. The process ends when
stdin closes."""
EPILOG = """\
examples:
  ugmcl worker
  ugmcl worker --job request.json --cancel-file stop
  ugmcl worker --on me@gpu-box"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options for one request in a file, without stdin, and for another computer."""
    parser.add_argument(
        "--job",
        metavar="FILE",
        help="do the one request in this file and end, without reading stdin",
    )
    parser.add_argument(
        "--cancel-file", metavar="FILE", help="with --job: cancel when this file appears"
    )
    parser.add_argument(
        "--pause-file", metavar="FILE", help="with --job: wait as long as this file exists"
    )
    parser.add_argument(
        "--told-file",
        metavar="FILE",
        help="with --job: commands for a training that keeps learning, as lines that are added to "
        "this file (add_case, take_model, stop)",
    )
    add_on(parser)
    parser.add_argument(
        "--session",
        action="store_true",
        help="serve another computer over ssh, which starts this by itself",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until stdin closes or a shutdown arrives."""
    if arguments.session:
        from ..remote import agent

        return agent.serve()
    given = [n for n in ("cancel", "pause", "told") if getattr(arguments, f"{n}_file")]
    if given and not arguments.job:
        what = f"--{given[0]}-file"
        raise InputError(f"{what} needs --job; without it send a request on stdin")
    if arguments.on:
        from ..remote import handler

        return handler.serve(computer_of(arguments), arguments.job, arguments.cancel_file)
    from ..worker import server

    if arguments.job:
        return server.run_job(
            arguments.job, arguments.cancel_file, arguments.pause_file,
            told_file=arguments.told_file,
        )  # fmt: skip
    return server.serve()
