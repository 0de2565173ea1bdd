"""The errors that a user sees: one line with what is wrong, where, and what to do."""

import contextlib
import importlib
import signal
import threading
from collections.abc import Callable, Iterator


class InputError(ValueError):
    """The user's input cannot be used; the message is shown unchanged."""


class Canceled(Exception):
    """The user stopped the work; nothing half-written is left behind."""


class LeftAlone(KeyboardInterrupt):
    """The process was ended from outside, or its terminal was closed. Unlike after Ctrl-C, work on
    another computer continues."""


def ending_signals() -> list[int]:
    """The signals that end a process: SIGTERM, and SIGHUP from a closed terminal, which Windows
    lacks and `nohup` ignores."""
    hangup = getattr(signal, "SIGHUP", None)
    kept_away = hangup is None or signal.getsignal(hangup) is signal.SIG_IGN
    return [signal.SIGTERM] if kept_away else [signal.SIGTERM, hangup]


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGINT, SIGTERM or SIGHUP has arrived.

    For work that an exception in its middle would leave half done, or that might swallow it; a
    second signal raises one all the same. Outside the main thread, where signals do not arrive, it
    always returns False.
    """
    arrived = False
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(*_: object) -> None:
        nonlocal arrived
        if arrived:
            raise KeyboardInterrupt
        arrived = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *ending_signals())}
    try:
        yield lambda: arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require(package: str, purpose: str, module: str = "") -> None:
    """InputError if the optional ``package`` is missing, that is, if its ``module`` (by default of
    the same name) cannot be imported."""
    try:
        importlib.import_module(module or package)
    except ImportError:
        text = f"{package} is needed {purpose}; install it (pip install {package})"
        raise InputError(text) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or in the main memory."""
    text = str(error)
    return isinstance(error, MemoryError) or any(
        words in text for words in ("out of memory", "allocate memory")
    )


def last_line(error: BaseException) -> str:
    """The last line of an error's text, where libraries such as ITK put the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Any error as one line for the user."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, InputError):
        return text
    if isinstance(error, MemoryError) or "allocate memory" in text:  # torch's wording on the CPU
        return "out of memory; set a region of interest or close other programs"
    if is_out_of_memory(error):  # and on a GPU
        return "out of GPU memory; choose the CPU or a region of interest"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; check the name, the permissions and the free space"
    return f"unexpected {type(error).__name__}: {text}"
