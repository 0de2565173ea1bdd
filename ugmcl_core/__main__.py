"""The command line: `ugmcl`, or `python -m ugmcl_core` without installation."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from . import __version__
from .cli import COMMANDS
from .errors import Canceled, InputError, LeftAlone, ending_signals, in_one_line

DONE, SOME_FAILED, BAD_INPUT, CANCELED = 0, 1, 2, 130

_EXIT_CODES = """\
exit codes: 0 done; 1 some cases failed, the others are written; 2 bad usage, or bad input and
nothing could be written; 130 canceled"""


class _Parser(argparse.ArgumentParser):
    """Reports an error in the arguments in one line."""

    def error(self, message: str) -> None:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; imports nothing heavy, so that `--help` is instant."""
    parser = _Parser(
        prog="ugmcl",
        description="Segment 3D medical images with a signed distance and an uncertainty map,\n"
        "and train such models semi-supervised (UG-MCL, Zhang et al., 2022).\n"
        "For research; not for clinical use.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ugmcl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        part = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=f"{command.EPILOG}\n\n{_EXIT_CODES}".strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(part)
        part.add_argument("--debug", action="store_true", help="show a traceback with errors")
        part.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; bad usage raises SystemExit(2)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names may not be valid text
            stream.reconfigure(errors="backslashreplace")
    words = _joined(list(sys.argv[1:] if arguments is None else arguments))
    parsed = _parsed(words)
    code = SOME_FAILED  # until the command says otherwise
    try:
        with _stopping_cleanly():
            code = parsed.run(parsed)
            sys.stdout.flush()
            return code
    except (KeyboardInterrupt, Canceled):
        if os.environ.get("LOCAL_RANK", "0") != "0":
            return CANCELED
        return _fail("canceled", CANCELED)
    except InputError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":  # the node's first process prints the same
            return BAD_INPUT
        return _fail(in_one_line(error), BAD_INPUT, parsed.debug)
    except BrokenPipeError:
        sys.stdout = None  # the reader left, for example `| head`; print nothing more
        return code
    except Exception as error:
        text = in_one_line(error)
        hint = not parsed.debug and text.startswith("unexpected")
        more = " (run again with --debug and report it)" if hint else ""
        return _fail(text + more, BAD_INPUT, parsed.debug)


def _parsed(words: list[str]) -> argparse.Namespace:
    """The parsed arguments. A command's positional arguments, whose list `several` names, may also
    stand between options, where argparse would take only the first few."""
    parser = build_parser()
    parsed, left = parser.parse_known_args(words)
    several = getattr(parsed, "several", None)
    if left and (several is None or any(word.startswith("-") for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        getattr(parsed, several).extend(left)
    return parsed


def _joined(words: list[str]) -> list[str]:
    """`--roi -1,2,...` as `--roi=-1,2,...`: argparse would take the leading minus for an
    option."""
    if "--roi" in words[:-1]:
        place = words.index("--roi")
        words[place : place + 2] = [f"--roi={words[place + 1]}"]
    return words


def _fail(message: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    print(f"ugmcl: {message}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _stopping_cleanly() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a closed terminal) unwind like Ctrl-C, so that temporary files are
    removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise LeftAlone

    before = {number: signal.signal(number, stop) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
