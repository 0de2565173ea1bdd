"""Installation of the packages that `dependencies` finds missing, each after confirmation."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CalledProcessError

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel.setup import dependencies

TITLE = "UGMCL Segmentation"
_OFFLINE = re.compile(
    r"getaddrinfo|name resolution|nodename nor servname|NewConnectionError|Max retries exceeded"
    r"|Network is unreachable|No route to host|Failed to establish a new connection"
    r"|timed out|ConnectTimeout|Connection refused|URLError",
    re.IGNORECASE,
)


class Declined(Exception):
    """The user declined."""


class Failed(Exception):
    """`lines` are the last of the installer's output; `isOffline` if it reached no server."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.isOffline = any(_OFFLINE.search(line) for line in lines)


def extension() -> None:
    """Install the PyTorch extension with the Extensions Manager."""
    _ask(_("Install the PyTorch extension?"))
    model = slicer.app.extensionsManagerModel()
    isInteractive, model.interactive = model.interactive, False  # the user has confirmed
    try:
        with _capturing() as lines:
            # the second argument prevents a restart without confirmation
            if not model.installExtensionFromServer("PyTorch", False):
                lines.append(_("The Extensions Manager could not install the PyTorch extension."))
                raise Failed(list(lines))
    finally:
        model.interactive = isInteractive


def torch() -> None:
    """Install torch with the PyTorch extension, which selects the build for this computer."""
    with _capturing():
        # it shows its own question, and imports torch afterwards
        if not _logic().installTorch(
            askConfirmation=True, torchVersionRequirement=dependencies.TORCH
        ):
            raise Declined


def reinstallTorch() -> None:
    """Replace a torch that is too old, slow or without GPU support."""
    _ask(_("Uninstall PyTorch and install the build that fits this computer?"))
    with _capturing():
        logic = _logic()
        logic.uninstallTorch()
        if not logic.installTorch(
            askConfirmation=False, torchVersionRequirement=dependencies.TORCH
        ):
            raise Declined


def others() -> None:
    """Install the other packages with pip, through Slicer's own dialog where it has one."""
    absent = dependencies.missing(dependencies.facts())
    requirements = [name + version for name, version in dependencies.OTHERS if name in absent]
    if not requirements:
        return
    with _capturing():
        ensure = _pipEnsure()
        if ensure is None:
            _ask(_("Install {packages}?").format(packages=", ".join(requirements)))
            slicer.util.pip_install(requirements)
            return
        try:
            ensure(_parsed(requirements), requester=TITLE)
        except RuntimeError as error:  # the user declined
            raise Declined from error


def numpy() -> None:
    """Install the NumPy that the other packages require."""
    wanted = dependencies.facts().numpyWanted
    _ask(_("Install NumPy {wanted}? Restart Slicer afterwards.").format(wanted=wanted))
    with _capturing():
        slicer.util.pip_install([f"numpy{wanted}"])


def fromFolder(folder: str) -> None:
    """Install from downloaded packages, without any network."""
    if not any(Path(folder).glob("*.whl")):
        raise Failed([_("There is no package (*.whl) in {folder}.").format(folder=folder)])
    found = dependencies.facts()
    kind = dependencies.judge(found).kind
    names = [name + version for name, version in dependencies.OTHERS if name not in found.others]
    if kind == dependencies.NUMPY:
        names.insert(0, f"numpy{found.numpyWanted}")
    elif kind != dependencies.NO_OTHERS:
        names.insert(0, f"torch{dependencies.TORCH}")
    with _capturing():
        slicer.util.pip_install(["--no-index", "--upgrade", "--find-links", folder, *names])


def _logic():
    try:
        import PyTorchUtils
    except ImportError as error:
        raise Failed(
            [
                _("The PyTorch extension, which does this, cannot be used ({why}).").format(
                    why=error
                ),
                _("Install it in the Extensions Manager, restart Slicer, and try again."),
            ]
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


def _ask(question: str) -> None:
    if not slicer.util.confirmOkCancelDisplay(question, TITLE):
        raise Declined


@contextlib.contextmanager
def _capturing() -> Iterator[deque[str]]:
    """Keep the last lines of the output; errors become Failed."""
    out = _TeeStdout(sys.stdout)
    before, sys.stdout = sys.stdout, out
    try:
        yield out.lines
    except (Declined, Failed):
        raise
    except Exception as error:  # of pip, of importing torch, of another extension
        if isinstance(error, CalledProcessError):
            out.write(f"{error.output or ''}\n")
            text = _("pip ended with exit code {n}.").format(n=error.returncode)
        else:
            text = " ".join(str(error).split()) or type(error).__name__
        out.write("\n")
        raise Failed([*out.lines, text]) from error
    finally:
        sys.stdout = before
        importlib.invalidate_caches()


class _TeeStdout:
    """A stdout that also keeps the last lines."""

    def __init__(self, out) -> None:
        self._out = out
        self._begun = ""
        self.lines: deque[str] = deque(maxlen=40)

    def write(self, text: str) -> int:
        if self._out is not None:
            self._out.write(text)
        *whole, self._begun = (self._begun + text).split("\n")
        self.lines.extend(line.strip() for line in whole if line.strip())
        return len(text)

    def flush(self) -> None:
        if self._out is not None:
            self._out.flush()


def _pipEnsure() -> Callable | None:
    """Slicer's function that asks and installs, or None before Slicer 5.12.

    5.11 previews had it in slicer.pydeps.
    """
    for name in ("slicer.packaging", "slicer.pydeps"):
        try:
            return importlib.import_module(name).pip_ensure
        except (ImportError, AttributeError):
            continue
    return None


def _parsed(requirements: list[str]) -> list:
    """As objects; early versions of `pip_ensure` take no texts."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return list(requirements)
    return [Requirement(text) for text in requirements]
