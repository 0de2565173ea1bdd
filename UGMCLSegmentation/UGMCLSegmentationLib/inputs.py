"""From the scene to the file that the worker reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib import geometry, nrrd, results
from UGMCLSegmentationLib.errors import PanelError

# as the worker has them, which knows files only and could not name the volume
_SPACINGS = 1e-6, 100.0  # mm; anything outside, 1 nm to 10 cm, is a broken header, not an image
_SKEW = 1e-3  # by how much the scalar products of the axes may differ from 0 and 1


def check(volumeNode) -> None:
    """Raise PanelError if the volume cannot be segmented; costs no time.

    What takes a look at every voxel (constant, NaN, infinite) is the worker's to find.
    """
    if volumeNode is None:
        raise PanelError(_("Select a volume first."))
    name = volumeNode.GetName()
    if results.isResultVolume(volumeNode):
        raise PanelError(
            _("{name} is a result and no scan: select the volume that it was made from. To "
              "segment it all the same, clone it first (Data module).").format(name=name)
        )  # fmt: skip
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
    _checkAxes(volumeNode)
    refuseNonLinear(volumeNode)


def refuseNonLinear(node) -> None:
    """Raise PanelError if the volume or region is under a transform that bends it."""
    transform = node.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        raise PanelError(
            _("{name} is under a non-linear transform: harden it first (Data module).").format(
                name=node.GetName()
            )
        )


def _checkAxes(volumeNode) -> None:
    """Raise PanelError unless the spacing is that of an image and the axes are at right angles."""
    name = volumeNode.GetName()
    axes = geometry.ijkToRas(volumeNode)[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not all(_SPACINGS[0] <= size <= _SPACINGS[1] for size in spacing):  # NaN is neither
        raise PanelError(
            _("{name} has an impossible voxel spacing, {spacing} mm: correct it in the Volumes "
              "module.").format(name=name, spacing=" × ".join(f"{size:g}" for size in spacing))
        )  # fmt: skip
    axes = axes / spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SKEW:
        raise PanelError(
            _("The axes of {name} are not at right angles (sheared): resample it onto a regular "
              "grid first (module Resample Scalar/Vector/DWI Volume).").format(name=name)
        )  # fmt: skip


def box(volumeNode, roiNode) -> geometry.Box:
    """The part of the volume that the worker gets. Raises PanelError if there is none."""
    if roiNode is None:
        return geometry.fullBox(volumeNode)
    refuseNonLinear(roiNode)
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


def fitRegion(roiNode, volumeNode) -> None:
    """A new region starts as the whole volume, for the user to shrink."""
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    roiNode.CreateDefaultDisplayNodes()
    roiNode.SetCenterWorld([(bounds[n] + bounds[n + 1]) / 2 for n in (0, 2, 4)])
    roiNode.SetSizeWorld([bounds[n + 1] - bounds[n] for n in (0, 2, 4)])
