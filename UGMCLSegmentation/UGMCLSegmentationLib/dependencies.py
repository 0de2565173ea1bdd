"""What the worker needs beyond Slicer: found without importing it, installed on request."""

from __future__ import annotations

import importlib
import importlib.metadata

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
    """
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
    try:
        from slicer.packaging import pip_ensure  # Slicer 5.11 and newer
    except ImportError:
        question = _("Install {packages} from PyPI?").format(packages=", ".join(requirements))
        if not slicer.util.confirmOkCancelDisplay(question, _("UGMCL Segmentation")):
            raise PanelError(_("The packages were not installed.")) from None
        slicer.util.pip_install(requirements)
        return
    try:
        pip_ensure(requirements, requester="UGMCL Segmentation")
    except RuntimeError as error:  # the user said no
        raise PanelError(str(error)) from None
