"""Surfaces of masks: extracted with VTK, which needs no display for that, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..distance import signed_distance
from ..errors import InputError

if TYPE_CHECKING:
    from matplotlib.colors import Normalize
    from mpl_toolkits.mplot3d import Axes3D

COLORS = "coolwarm"
_GRAY = (0.80, 0.78, 0.72)
_LIGHT = np.array([-0.35, -0.85, 0.45])
_VIEW = {"elev": 28.0, "azim": -75.0}  # from behind: where the left atrium's veins are
_ZOOM = 1.5  # the view of a cube, which its axes would clip at larger ones
_TRIANGLES = 6000
_SMOOTHING = 25


def check() -> None:
    """Raise InputError unless VTK is there."""
    try:
        import vtkmodules.vtkCommonCore  # noqa: F401
    except ImportError:
        raise InputError("vtk is needed for surfaces; install it (pip install vtk)") from None


def surface(mask: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) in mm from the center of voxel (0, 0, 0) and triangles (T, 3) of a mask's
    smoothed surface, normals outwards; both empty for an empty mask."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import (
        vtkFlyingEdges3D,
        vtkQuadricDecimation,
        vtkWindowedSincPolyDataFilter,
    )

    if not mask.any():
        return np.empty((0, 3)), np.empty((0, 3), int)
    padded = np.pad(mask, 1)  # a mask at the volume's edge is closed there
    image = vtkImageData()
    image.SetDimensions(padded.shape)
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([-float(s) for s in spacing])
    values = np.ascontiguousarray(padded.ravel(order="F"), np.float32)
    image.GetPointData().SetScalars(numpy_to_vtk(values))
    edges = vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 0.5)
    smooth = vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(edges.GetOutputPort())
    smooth.SetNumberOfIterations(_SMOOTHING)
    smooth.SetPassBand(0.03)
    smooth.NormalizeCoordinatesOn()
    smooth.Update()
    mesh = smooth.GetOutput()
    if mesh.GetNumberOfPolys() > _TRIANGLES:
        fewer = vtkQuadricDecimation()
        fewer.SetInputData(mesh)
        fewer.SetTargetReduction(1.0 - _TRIANGLES / mesh.GetNumberOfPolys())
        fewer.Update()
        mesh = fewer.GetOutput()
    vertices = vtk_to_numpy(mesh.GetPoints().GetData()).astype(float)
    triangles = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return vertices, _outwards(vertices, triangles)


def middle(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Center (3,) in mm of a mask's box; of the volume's for an empty mask."""
    low, high = _box(mask)
    return (low + high) / 2 * np.asarray(spacing)


def half_extent(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Half the side in mm of the cube that holds a mask."""
    low, high = _box(mask)
    return 0.5 * float(((high - low) * np.asarray(spacing)).max())


def within(
    mask: np.ndarray, spacing: Sequence[float], center: np.ndarray, half: float
) -> np.ndarray:
    """``mask`` without what lies beyond the cube around ``center`` (mm)."""
    kept = np.zeros_like(mask)
    low = np.ceil((center - half) / np.asarray(spacing)).astype(int).clip(0)
    high = np.floor((center + half) / np.asarray(spacing)).astype(int).clip(0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    kept[box] = mask[box]
    return kept


def _box(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.argwhere(mask)
    if not len(places):
        return np.zeros(3), np.subtract(mask.shape, 1.0)
    return places.min(axis=0), places.max(axis=0)


def draw(
    axes: Axes3D,
    mask: np.ndarray,
    reference: np.ndarray | None,
    spacing: Sequence[float],
    limits: tuple[np.ndarray, float],
    scale: Normalize,
) -> None:
    """Draw the surface of ``mask`` into 3D ``axes``: colored by its signed distance to that of
    ``reference`` (mm, on ``scale``), gray without one."""
    from matplotlib import colormaps
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    center, half = limits
    axes.set_axis_off()
    axes.view_init(**_VIEW)
    axes.set_proj_type("ortho")
    axes.set_box_aspect((1, 1, 1), zoom=_ZOOM)
    setters = (axes.set_xlim, axes.set_ylim, axes.set_zlim)
    for set_limits, at in zip(setters, center, strict=True):
        set_limits(at - half, at + half)
    vertices, triangles = surface(within(mask, spacing, center, half), spacing)
    if not len(triangles):
        axes.text2D(0.5, 0.5, "empty", transform=axes.transAxes, ha="center", fontsize=8)
        return
    corners = vertices[triangles]
    color = np.tile(_GRAY, (len(corners), 1))
    if reference is not None and reference.any():
        distance = distances(corners.mean(axis=1), reference, spacing)
        color = colormaps[COLORS](scale(distance))[:, :3]
    light = _LIGHT / np.linalg.norm(_LIGHT)
    shade = 0.45 + 0.55 * np.clip(_normals(corners) @ light, 0.0, 1.0)
    colors = np.clip(color * shade[:, None], 0, 1)
    faces = Poly3DCollection(corners, facecolors=colors, edgecolors=colors)
    faces.set_linewidth(0.2)  # hides the seams between triangles
    faces.set_rasterized(True)  # thousands of triangles would make the SVG huge
    axes.add_collection3d(faces)


def distances(points: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Signed distance in mm of ``points`` (P, 3; mm) to the surface of a mask, negative inside."""
    from scipy import ndimage

    field = signed_distance(reference, tuple(spacing))
    return ndimage.map_coordinates(
        field, (points / np.asarray(spacing)).T, order=1, mode="nearest"
    )


def _normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals (T, 3) of triangles (T, 3, 3); 0 for one without area."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def _outwards(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The triangles in the order of corners that makes the enclosed volume positive."""
    a, b, c = (vertices[triangles[:, n]] for n in range(3))
    enclosed = np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0
    return triangles if enclosed >= 0 else triangles[:, ::-1]
