"""From the scene to the file that the worker reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import geometry, nrrd
from .errors import PanelError


def check(volumeNode) -> None:
    """Raise PanelError if the volume cannot be segmented; costs no time.

    What takes a look at every voxel (constant, NaN, infinite) is the worker's to find.
    """
    if volumeNode is None:
        raise PanelError(_("Select a volume first."))
    name = volumeNode.GetName()
    image = volumeNode.GetImageData()
    if image is None or min(geometry.dimensions(volumeNode)) < 1:
        raise PanelError(_("{name} is empty: load its image first.").format(name=name))
    if image.GetNumberOfScalarComponents() != 1:
        raise PanelError(
            _("{name} has {n} components per voxel: select a scalar volume.").format(
                name=name, n=image.GetNumberOfScalarComponents()
            )
        )
    if min(geometry.dimensions(volumeNode)) < 2:
        raise PanelError(_("{name} is a single slice: select a 3D volume.").format(name=name))
    spacing = np.array(volumeNode.GetSpacing())
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise PanelError(
            _("{name} has an impossible voxel spacing: correct it in the Volumes module.").format(
                name=name
            )
        )
    transform = volumeNode.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        raise PanelError(
            _("{name} is under a non-linear transform: harden it first (Data module).").format(
                name=name
            )
        )


def box(volumeNode, roiNode) -> geometry.Box:
    """The part of the volume that the worker gets."""
    if roiNode is None:
        return geometry.fullBox(volumeNode)
    return geometry.roiBox(roiNode, volumeNode)


def write(volumeNode, part: geometry.Box, path: Path) -> Iterator[None]:
    """Write the part as NRRD in the volume's own space, without its parent transforms."""
    array = slicer.util.arrayFromVolume(volumeNode)[part.slices]
    try:
        yield from nrrd.write(path, array, part.matrix(geometry.ijkToRas(volumeNode)))
    except OSError as error:
        raise PanelError(
            _("The temporary volume cannot be written: {why}.").format(why=error.strerror)
        ) from None
