"""What the worker needs beyond Slicer: found without importing it, installed on request."""

from __future__ import annotations

import importlib
import importlib.metadata
from subprocess import CalledProcessError

import slicer
from slicer.i18n import tr as _

from .errors import PanelError

TORCH = ("torch", ">=2.3")
OTHERS = (("safetensors", ">=0.4"),)


def missing() -> list[str]:
    """The names of packages that are not installed. torch is never imported in this process."""
    importlib.invalidate_caches()
    return [name for name, _version in (TORCH, *OTHERS) if not _isInstalled(name)]


def _isInstalled(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def install() -> bool:
    """Install what is missing, asking first; returns whether Slicer should be restarted.

    The PyTorch extension chooses the torch that fits the computer; pip alone would not.
    Raises PanelError when something stays missing.
    """
    try:
        return _install()
    except CalledProcessError as error:
        raise PanelError(
            _("pip failed (exit code {n}): see the Python console, and check the network.").format(
                n=error.returncode
            )
        ) from None
    except OSError as error:
        raise PanelError(
            _("The packages cannot be installed: {why}.").format(why=error.strerror or error)
        ) from None


def _install() -> bool:
    absent = missing()
    restart = TORCH[0] in absent
    if restart:
        try:
            import PyTorchUtils
        except ModuleNotFoundError:
            raise PanelError(
                _("Install the PyTorch extension in the Extensions Manager, restart, come back.")
            ) from None
        logic = PyTorchUtils.PyTorchUtilsLogic()
        if not logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH[1]):
            raise PanelError(_("PyTorch was not installed."))
    requirements = [name + version for name, version in OTHERS if name in absent]
    if requirements:
        _pipInstall(requirements)
    return restart


def _pipInstall(requirements: list[str]) -> None:
    ensure = _pipEnsure()
    if ensure is None:
        question = _("Install {packages} from PyPI?").format(packages=", ".join(requirements))
        if not slicer.util.confirmOkCancelDisplay(question, _("UGMCL Segmentation")):
            raise PanelError(_("The packages were not installed."))
        slicer.util.pip_install(requirements)
        return
    try:
        ensure(_parsed(requirements), requester="UGMCL Segmentation")
    except RuntimeError:  # the user said no
        raise PanelError(_("The packages were not installed.")) from None


def _pipEnsure():
    """Slicer's own way to ask and install, of version 5.11 and newer, or None.

    It has had two names.
    """
    for name in ("slicer.packaging", "slicer.pydeps"):
        try:
            return importlib.import_module(name).pip_ensure
        except (ImportError, AttributeError):
            continue
    return None


def _parsed(requirements: list[str]) -> list:
    """As objects, the only kind that early versions of `pip_ensure` take."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return list(requirements)
    return [Requirement(text) for text in requirements]
