"""The errors that a user sees: one line with what is wrong, where, and what to do."""

import importlib
import signal


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
