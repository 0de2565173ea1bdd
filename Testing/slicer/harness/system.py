"""What must be in place before VTK and Qt are imported: libraries and environment variables."""

from __future__ import annotations

import ctypes.util
import os
import sys

DEBIAN_PACKAGES = (
    "libegl1 libgl1 libxkbcommon0 libglib2.0-0 libfontconfig1 libdbus-1-3"
)
_LIBRARIES = ("EGL", "GL")


class MissingLibraries(RuntimeError):
    """Offscreen rendering cannot work on this computer as it is."""


def check_libraries() -> None:
    """Refuse to start without EGL and GL, since VTK would end in a segmentation fault instead."""
    missing = [name for name in _LIBRARIES if not _loadable(name)]
    if missing:
        names = " and ".join(f"lib{name}" for name in missing)
        raise MissingLibraries(
            f"{names} cannot be loaded, offscreen rendering needs it; on Debian or Ubuntu run: "
            f"apt-get install {DEBIAN_PACKAGES}"
        )


def _loadable(name: str) -> bool:
    candidates = [ctypes.util.find_library(name), f"lib{name}.so.1"]
    for candidate in candidates:
        if candidate is None:
            continue
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return True
    return False


def prepare_environment() -> None:
    """Choose offscreen rendering and enumerations that are integers, as PythonQt's are."""
    os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "3")
    _keep_constants_alive()


def _keep_constants_alive() -> None:
    """Make None, True and False immortal, which they are from Python 3.12 on.

    PySide6 6.12 returns them without taking a reference. On an older Python their counts run
    down to zero after a while, and the interpreter aborts.
    """
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40
