"""`ugmcl worker`: the process behind the Slicer panel."""

from __future__ import annotations

import argparse

from ..errors import InputError

NAME = "worker"
HELP = "serve requests as JSON lines (used by the Slicer panel)"
DESCRIPTION = """\
Read one JSON request per line on stdin and write one JSON event per line on stdout, as
docs/architecture.md describes; the model stays loaded between requests. The process ends when
stdin closes."""
EPILOG = """\
examples:
  ugmcl worker
  ugmcl worker --job request.json --cancel-file stop"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing, or one request in a file, without stdin."""
    parser.add_argument(
        "--job",
        metavar="FILE",
        help="do the one request in this file and end, without reading stdin",
    )
    parser.add_argument(
        "--cancel-file", metavar="FILE", help="with --job: cancel when this file appears"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until stdin closes or a shutdown arrives."""
    from ..worker import server

    if arguments.job:
        return server.run_job(arguments.job, arguments.cancel_file)
    if arguments.cancel_file:
        raise InputError("--cancel-file needs --job; without it send a cancel request on stdin")
    return server.serve()
