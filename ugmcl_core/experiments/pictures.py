"""Pictures of the methods' results: slices with contours (Figure 5), surfaces (Figure 6)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data import volume
from ..data.preprocessing import canonical_axes, to_canonical
from ..errors import InputError
from ..evaluation import metrics
from ..nn.level_sets import signed_distance
from .results import Results
from .running import Workplace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

REFERENCE, FOUND = "#FFD400", "#FF3B30"
_MARGIN_MM = 18.0
_FARTHEST_MM = 10.0  # of the colors of surfaces


@dataclass(frozen=True)
class Scene:
    """One case in canonical axes (i, j, k along R, A, S): image, reference mask, the methods'
    masks by row label, spacing in mm; ``about`` is the reason to show it."""

    name: str
    about: str
    image: np.ndarray
    reference: np.ndarray
    found: dict[str, np.ndarray]
    spacing: tuple[float, float, float]


def choose(results: Results, wanted: Sequence[str]) -> dict[str, str]:
    """The cases to show and why: the ``wanted`` ones, or those where UG-MCL's Dice, averaged over
    its seeds, is lowest, median and highest. InputError for cases that were not scored."""
    if unknown := [name for name in wanted if name not in results.cases]:
        raise InputError(f"{unknown[0]} is not among the scored cases; see --score and --dev-list")
    if wanted:
        return {name: "" for name in wanted}
    row = next((r for r in results.present if r.row.reference), results.present[0])
    dice = np.nan_to_num(row.values(results.cases).mean(axis=0))
    order = [results.cases[n] for n in np.argsort(dice, kind="stable")]
    picked = {order[0]: "lowest", order[len(order) // 2]: "median", order[-1]: "highest"}
    return {name: f"{word} Dice of {row.row.label}" for name, word in picked.items()}


def scenes(results: Results, place: Workplace, chosen: dict[str, str]) -> list[Scene]:
    """The chosen cases with every present row's label map of its first scored seed; the first
    class alone."""
    usable = place.dataset.usable(list(chosen), place.output / "cases")
    made = []
    for name, about in chosen.items():
        image = volume.read(usable[name].image)
        order, flips = canonical_axes(image.grid)

        def canonical(
            path: Path, order: tuple[int, ...] = order, flips: tuple[bool, ...] = flips
        ) -> np.ndarray:
            return to_canonical(volume.read_labels(path).array == 1, order, flips)

        made.append(
            Scene(
                name,
                about,
                to_canonical(image.array, order, flips),
                canonical(usable[name].label),
                {
                    label: canonical(folder / f"{name}.nrrd")
                    for label, folder in results.predictions.items()
                },
                tuple(image.grid.spacing[a] for a in order),
            )
        )
    return made


def slices(shown: Sequence[Scene], about: str) -> Figure:
    """Figure 5: the axial slice where the reference is largest, a row for each case and a column
    for each method, all at one scale; patient right on the left, front at the top."""
    from matplotlib.lines import Line2D

    labels = list(shown[0].found)
    half = tuple(max(_half_extent(s)[n] for s in shown) for n in range(2))
    figure, grid = _grid(len(shown), len(labels), 1.9, 1.9 * half[1] / half[0])
    for axes, scene in zip(grid, shown, strict=True):
        level = _level(scene)
        image = scene.image[:, :, level]
        low, high = np.percentile(image, [1, 99.5])
        for one, label in zip(axes, labels, strict=True):
            one.set_facecolor("black")
            extent = [0, image.shape[0] * scene.spacing[0], image.shape[1] * scene.spacing[1], 0]
            one.imshow(
                _axial(image),
                cmap="gray",
                vmin=low,
                vmax=high,
                extent=extent,
                interpolation="bilinear",
            )
            for mask, color in ((scene.reference, REFERENCE), (scene.found[label], FOUND)):
                flat = _axial(mask[:, :, level]).astype(float)
                if flat.any():
                    one.contour(flat, [0.5], colors=color, linewidths=1.1, extent=extent,
                                origin="upper")  # fmt: skip
            rows, columns = np.nonzero(_axial(scene.reference[:, :, level]))
            x = scene.spacing[0] * (columns.min() + columns.max() + 1) / 2
            y = scene.spacing[1] * (rows.min() + rows.max() + 1) / 2
            one.set_xlim(x - half[0], x + half[0])
            one.set_ylim(y + half[1], y - half[1])
            _note_dice(one, metrics.dice(scene.found[label], scene.reference), "white")
    _headings(grid, labels, shown)
    figure.legend(
        handles=[
            Line2D([], [], color=REFERENCE, linewidth=2, label="reference"),
            Line2D([], [], color=FOUND, linewidth=2, label="method"),
        ],
        loc="outside upper right",
        ncols=2,
        facecolor="0.25",
        labelcolor="white",
        fontsize=7,
    )
    _caption(figure, about)
    return figure


def surface_figure(shown: Sequence[Scene], about: str) -> Figure:
    """Figure 6: the surfaces seen from behind, at one scale, the reference first; a method's is
    colored by its distance to the reference's, outside or inside of it. What lies beyond the cube
    that is shown is cut off."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    labels = list(shown[0].found)
    figure, grid = _grid(len(shown), 1 + len(labels), 1.7, 1.55, projection="3d")
    scale = Normalize(-_FARTHEST_MM, _FARTHEST_MM)
    half = max(half_extent(s.reference, s.spacing) for s in shown) + _FARTHEST_MM
    for axes, scene in zip(grid, shown, strict=True):
        limits = (middle(scene.reference, scene.spacing), half)
        draw(axes[0], scene.reference, None, scene.spacing, limits, scale)
        for one, label in zip(axes[1:], labels, strict=True):
            found = scene.found[label]
            draw(one, found, scene.reference, scene.spacing, limits, scale)
            _note_dice(one, metrics.dice(found, scene.reference), "black")
    _headings(grid, ["Reference", *labels], shown)
    bar = figure.colorbar(
        ScalarMappable(scale, COLORS),
        ax=grid.ravel().tolist(),
        location="right",
        shrink=0.6,
        aspect=25,
        pad=0.01,
    )
    bar.set_label("mm outside (+) or inside (-) the reference", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _caption(figure, about)
    return figure


def _grid(
    rows: int, columns: int, width: float, height: float, projection: str | None = None
) -> tuple[Figure, np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.5 + width * columns, 0.7 + height * rows), layout="constrained")
    grid = figure.subplots(
        rows, columns, squeeze=False, subplot_kw={"projection": projection} if projection else {}
    )
    if not projection:
        for axes in grid.flat:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
    return figure, grid


def _headings(grid: np.ndarray, labels: Sequence[str], shown: Sequence[Scene]) -> None:
    for axes, label in zip(grid[0], labels, strict=True):
        axes.set_title(label, fontsize=9)
    for axes, scene in zip(grid[:, 0], shown, strict=True):
        text = scene.about.replace(" Dice of ", " Dice\nof ") or scene.name
        at = (-0.06, 0.5)
        options = {"transform": axes.transAxes, "rotation": 90, "fontsize": 8}
        write = axes.text2D if hasattr(axes, "text2D") else axes.text
        write(*at, text, ha="right", va="center", multialignment="center", **options)


def _note_dice(axes: Axes, value: float, color: str) -> None:
    from matplotlib.patheffects import withStroke

    around = "black" if color == "white" else "white"
    write = axes.text2D if hasattr(axes, "text2D") else axes.text
    write(
        0.97, 0.03, f"{100 * value:.1f} %", transform=axes.transAxes, ha="right", va="bottom",
        color=color, fontsize=7,
        path_effects=[withStroke(linewidth=2, foreground=around)],
    )  # fmt: skip


def _axial(array: np.ndarray) -> np.ndarray:
    """(R, A) to rows from front to back and columns from right to left, as a radiologist looks."""
    return array[::-1, ::-1].T


def _level(scene: Scene) -> int:
    """The axial slice with the most of the reference."""
    return int(scene.reference.sum(axis=(0, 1)).argmax())


def _half_extent(scene: Scene) -> tuple[float, float]:
    """Half the size in mm of the reference's box in its slice, with a margin."""
    places = np.argwhere(scene.reference[:, :, _level(scene)])
    if not len(places):
        places = np.array([[0, 0], np.subtract(scene.reference.shape[:2], 1)])
    size = (places.max(axis=0) + 1 - places.min(axis=0)) * np.asarray(scene.spacing[:2])
    return tuple(size / 2 + _MARGIN_MM)


def _caption(figure: Figure, text: str) -> None:
    """``text`` below the figure, broken to its width."""
    width = int(18 * figure.get_figwidth())
    figure.supxlabel(textwrap.fill(text, width), fontsize=7, color="0.35", x=0.01, ha="left")


COLORS = "coolwarm"
_GRAY = (0.80, 0.78, 0.72)
_LIGHT = np.array([-0.35, -0.85, 0.45])
_VIEW = {"elev": 28.0, "azim": -75.0}  # from behind: where the left atrium's veins are
_ZOOM = 1.5  # the view of a cube, which its axes would clip at larger ones
_TRIANGLES = 6000
_SMOOTHING = 25


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
