"""Generated cases for the demo, the tests and sample data: `phantom` looks like late-enhanced
heart MR, `abdomen` like a coarse CT with contrast medium.

An atrium (ellipsoids, four pulmonary veins, an appendage) among other chambers, vessels, lung and
spine, drawn as signed distances in mm, so that the labels are exact; then texture, blur, a bias
field and Rician noise. Every case is a function of its seed alone.

Inside this file a point is (x to the left, y to the back, z up) in mm from the center of the
volume, the axes of a usual axial scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import volume
from .volume import Grid, Volume

_REFERENCE_MM = (110.0, 90.0, 55.0)
"""The extent that the sizes below are designed for; other extents scale the whole heart."""


@dataclass(frozen=True)
class _Scene:
    """Where things are, after a random pose: `points` (3, I, J, K) in mm, and the randomness."""

    points: np.ndarray
    random: np.random.Generator

    def near(self, point: Sequence[float], by: float) -> np.ndarray:
        """`point`, moved at random by about `by` mm."""
        return np.asarray(point, float) + self.random.normal(0.0, by / 2, 3)

    def ellipsoid(self, center: Sequence[float], radii: Sequence[float]) -> np.ndarray:
        """Distance to an ellipsoid (near its surface a good approximation), negative inside."""
        offset = [p - c for p, c in zip(self.points, center, strict=True)]
        scaled = np.sqrt(sum((o / r) ** 2 for o, r in zip(offset, radii, strict=True)))
        return (scaled - 1.0) * float(np.mean(radii))

    def tube(self, path: Sequence[Sequence[float]], radii: Sequence[float]) -> np.ndarray:
        """Distance to a tube along `path`, its radius changing linearly between the points."""
        return np.min([
            self._segment(np.asarray(a, float), np.asarray(b, float), ra, rb)
            for a, b, ra, rb in zip(path[:-1], path[1:], radii[:-1], radii[1:], strict=True)
        ], axis=0)

    def _segment(self, a: np.ndarray, b: np.ndarray, ra: float, rb: float) -> np.ndarray:
        along = b - a
        offset = self.points - a[:, None, None, None]
        part = np.clip(np.tensordot(along, offset, 1) / (along @ along), 0.0, 1.0)
        gap = offset - along[:, None, None, None] * part
        return np.sqrt((gap**2).sum(0)) - (ra + (rb - ra) * part)


@dataclass(frozen=True)
class _Heart:
    """Distances in mm, negative inside."""

    atrium: np.ndarray  # what is labeled: body, appendage, the veins' first centimeters
    veins: np.ndarray  # the veins as far as they go
    right_atrium: np.ndarray
    blood: np.ndarray  # the other chambers and vessels
    muscle: np.ndarray  # the ventricles with their walls
    lung: np.ndarray
    spine: np.ndarray


def phantom(
    seed: int,
    shape: tuple[int, int, int] = (88, 72, 44),
    spacing: tuple[float, float, float] = (1.25, 1.25, 1.25),
    classes: int = 2,
) -> tuple[Volume, Volume]:
    """An image (float32) and its exact labels (uint8): 1 left atrium, with 3 `classes` also
    2 right atrium. The same arguments give the same case on every machine of one kind.

    `shape` counts voxels and `spacing` is in mm; the heart fills the volume whatever its extent.
    """
    if classes not in (2, 3):
        raise InputError(f"choose 2 or 3 classes for a phantom, not {classes}")
    random = np.random.default_rng([seed, 1])
    scene = _Scene(_posed(shape, spacing, random), random)
    heart = _draw(scene)
    labels = (heart.atrium < 0).astype(np.uint8)
    if classes == 3:
        labels[(heart.right_atrium < 0) & (labels == 0)] = 2
    image = _acquired(_contrast(heart, random), random)
    grid = _grid(shape, spacing)
    return Volume(image, grid), Volume(labels, grid)


def abdomen(
    seed: int,
    shape: tuple[int, int, int] = (128, 104, 56),
    spacing: tuple[float, float, float] = (2.5, 2.5, 4.0),
) -> tuple[Volume, Volume]:
    """An image in Hounsfield units (int16) and its exact labels (uint8): 1 spleen, at the left and
    behind, beside a stomach, liver, kidneys and bowel that are about as bright.

    `shape` counts voxels and `spacing` is in mm; sizes are those of an adult whatever the extent.
    """
    from scipy import ndimage

    random = np.random.default_rng([seed, 2])
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    bend = [5.0 * _texture(shape, 12.0, random) for _ in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")) + bend
    scene = _Scene(points / random.uniform(0.92, 1.08), random)
    near, blood = scene.near, random.uniform(130, 190)
    trunk = scene.ellipsoid((0, 0, 0), (random.uniform(135, 155), random.uniform(98, 112), 900))
    wall = trunk + random.uniform(14, 24)  # what lies within the fat under the skin
    cavity = wall + 14.0
    image = np.where(trunk < 0, -105.0, -1000.0)
    image[wall < 0] = 55.0
    image[cavity < 0] = -95.0

    def fill(distance: np.ndarray, value: float, grain: float = 0.0) -> None:
        inside = (distance < 0) & (wall < 0)
        image[inside] = value + (grain * _texture(shape, 2.0, random)[inside] if grain else 0.0)

    top = random.uniform(62, 78)  # of the diaphragm, which the lungs lie around
    domes = [scene.ellipsoid((side * 58, 6, top - 90), (74, 84, 90)) for side in (-1, 1)]
    below = top - 50 - scene.points[2]
    fill(np.max([-np.minimum(*domes), cavity, below], axis=0), -830.0, 40.0)
    for _ in range(24):  # bowel, some of it with gas
        size = random.uniform(8, 17, 3)
        place = random.uniform((-85, -75, -110), (85, 5, 0))
        fill(np.maximum(scene.ellipsoid(place, size), cavity), random.choice([25, 45, 70, -700]))
    spleen = scene.ellipsoid(near((84, 30, 28), 14), random.uniform(0.85, 1.15, 3) * (30, 42, 46))
    hollow = scene.ellipsoid(near((52, 14, 26), 8), (34, 34, 60))
    spleen = np.max([spleen, -hollow, cavity + 2.0, scene.points[2] - top], axis=0)
    liver = scene.ellipsoid(near((-62, -2, 30), 10), random.uniform(0.9, 1.1, 3) * (76, 78, 70))
    stomach = scene.ellipsoid(near((44, -30, 34), 12), random.uniform(0.8, 1.2, 3) * (38, 32, 42))
    fill(np.maximum(stomach, cavity), random.uniform(10, 120))
    fill(np.maximum(liver, cavity), random.uniform(95, 125), 6.0)
    for side in (-1, 1):
        kidney = scene.ellipsoid(near((58 * side, 48, -38), 10), (25, 22, 50))
        pelvis = scene.ellipsoid(near((42 * side, 44, -38), 5), (14, 11, 20))
        fill(np.maximum(kidney, -pelvis), random.uniform(140, 200))
    fill(spleen, random.uniform(105, 140), 5.0)
    fill(scene.tube((near((10, 38, -120), 3), near((8, 40, 120), 3)), (10, 11)), blood)
    fill(scene.tube((near((-16, 34, -120), 3), near((-14, 30, 120), 3)), (11, 12)), 0.9 * blood)
    fill(scene.ellipsoid((0, 72, 0), (22, 20, 900)), 320.0, 70.0)  # the spine
    labels = (spleen < 0).astype(np.uint8)
    image = ndimage.gaussian_filter(image, 0.6) + random.normal(0, 14, shape)
    grid = _grid(shape, spacing)
    return Volume(image.round().astype(np.int16), grid), Volume(labels, grid)


def write_cohort(
    folder: str | Path,
    count: int,
    seed: int = 0,
    shape: tuple[int, int, int] = (88, 72, 44),
    spacing: tuple[float, float, float] = (1.25, 1.25, 1.25),
    classes: int = 2,
) -> list[str]:
    """Write `count` cases as images/NAME.nrrd and labels/NAME.nrrd; returns the names."""
    names = [f"phantom-{seed + n:03d}" for n in range(count)]
    for kind in ("images", "labels"):
        (Path(folder) / kind).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        case = phantom(seed + number, shape, spacing, classes)
        for kind, content in zip(("images", "labels"), case, strict=True):
            volume.write(Path(folder) / kind / f"{name}.nrrd", content)
    return names


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """Voxel axes to the left, to the back and up, the center of the volume at the origin."""
    half = [s * (n - 1) / 2 for n, s in zip(shape, spacing, strict=True)]
    axes = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    return Grid(tuple(shape), tuple(spacing), (half[0], half[1], -half[2]), axes)


def _posed(
    shape: Sequence[int], spacing: Sequence[float], random: np.random.Generator
) -> np.ndarray:
    """Voxel centers (3, I, J, K) in the heart's own mm: turned, stretched and moved at random."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    fit = min(n * s / r for n, s, r in zip(shape, spacing, _REFERENCE_MM, strict=True))
    angles = np.deg2rad(random.uniform(-14, 14, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (n for n in range(3) if n != axis)
        step = np.eye(3)
        step[[a, b], [a, b]] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    stretch = random.uniform(0.88, 1.12) * random.uniform(0.94, 1.06, 3) * fit
    shift = random.uniform(-1, 1, 3) * (7.0, 5.0, 3.0) * fit
    moved = points - shift[:, None, None, None]
    return np.tensordot(np.diag(1.0 / stretch) @ turn, moved, 1)


def _draw(scene: _Scene) -> _Heart:
    random = scene.random
    near = scene.near
    center = near((0, 10, 0), 3)
    radii = np.array((24.0, 16.0, 18.0)) * random.uniform(0.88, 1.12, 3)
    body = _joined(
        scene.ellipsoid(center, radii),
        scene.ellipsoid(center + near((9, 2, 3), 3), 0.78 * radii),
        scene.ellipsoid(center + near((-9, 1, -3), 3), 0.74 * radii),
    )
    ends = [(50, 28, 17), (50, 33, -13), (-51, 16, 20), (-50, 30, -13)]
    starts = [(15, 12, 9), (14, 14, -7), (-14, 9, 9), (-14, 13, -7)]
    short, long = [], []
    for start, end in zip(starts, ends, strict=True):
        a, b = near(start, 2.5), near(end, 6)
        bend = (a + b) / 2 + random.normal(0, 2.0, 3)
        wide, narrow = random.uniform(6.0, 8.0), random.uniform(3.8, 5.2)
        long.append(scene.tube((a, bend, b), (wide, (wide + narrow) / 2, narrow)))
        # The label follows a vein for about a centimeter beyond the body, as readers do.
        along = b - a
        plane = np.tensordot(along / np.linalg.norm(along),
                             scene.points - a[:, None, None, None], 1)
        short.append(np.maximum(long[-1], plane - random.uniform(17, 20)))
    tip, root = near((33, -17, 9), 4), near((17, 0, 5), 2)
    appendage = scene.tube((root, (root + tip) / 2 + near((3, 2, 2), 3), tip),
                           (7.5, 6.0, random.uniform(3.5, 5.5)))  # fmt: skip
    body = _joined(body, appendage)
    right = _joined(scene.ellipsoid(near((-32, -16, -5), 3), (19, 24, 22)),
                    scene.tube((near((-34, -4, 0), 2), near((-30, -2, 40), 3)), (8, 7.5)))
    left_ventricle = scene.ellipsoid(near((34, -30, -18), 3), (21, 24, 20))
    right_ventricle = scene.ellipsoid(near((-4, -38, -13), 3), (27, 19, 22))
    root = scene.tube((near((2, -16, -10), 2), near((-6, -20, 12), 2), near((-10, -22, 45), 3)),
                      (10.5, 11.5, 11.0))
    pulmonary = scene.tube((near((14, -34, 4), 2), near((20, -22, 40), 3)), (9.5, 10.0))
    descending = scene.tube((near((24, 41, -40), 2), near((22, 39, 40), 2)), (9.5, 9.0))
    wall = random.uniform(7, 10)
    septum = random.uniform(2.0, 3.0)  # what separates the atrium from its neighbors, mm
    veins = _joined(body, np.min(long, axis=0))
    others = np.min([left_ventricle, right_ventricle, root, pulmonary, descending], axis=0)
    lungs = np.minimum(scene.ellipsoid((74, 16, 4), (44, 62, 75)),
                       scene.ellipsoid((-76, 18, 4), (42, 60, 75)))
    return _Heart(
        atrium=_joined(body, np.min(short, axis=0)),
        veins=veins,
        right_atrium=np.maximum(right, septum - veins),
        blood=np.maximum(others, septum - veins),
        muscle=np.minimum(left_ventricle - wall, right_ventricle - 3.5),
        lung=np.maximum(lungs, 3.0 - np.min([left_ventricle - wall, right], axis=0)),
        spine=scene.ellipsoid(near((-2, 56, 0), 2), (19, 17, 60)),
    )


def _contrast(heart: _Heart, random: np.random.Generator) -> np.ndarray:
    """Tissue intensities, painted over each other from the back to the front."""
    shape = heart.atrium.shape
    blood = random.uniform(0.62, 0.85)
    image = random.uniform(0.36, 0.52) * (1.0 + 0.3 * _texture(shape, 2.2, random))

    def paint(distance: np.ndarray, value: np.ndarray | float, soft: float = 0.7) -> None:
        nonlocal image
        inside = 1.0 / (1.0 + np.exp(np.clip(distance / (0.4 * soft), -40, 40)))
        image = image * (1.0 - inside) + value * inside

    paint(heart.lung, random.uniform(0.05, 0.12) * (1.0 + 0.7 * _texture(shape, 1.2, random)), 2.0)
    paint(heart.spine, random.uniform(0.3, 0.5) * (1.0 + 0.35 * _texture(shape, 3.0, random)))
    paint(heart.muscle, random.uniform(0.16, 0.32) * (1.0 + 0.25 * _texture(shape, 2.0, random)))
    flow = 1.0 + 0.12 * _texture(shape, 4.0, random)
    # The atrium's wall: dark muscle with bright late-enhanced patches, as after an ablation.
    scar = np.clip(2.0 * _texture(shape, 3.5, random), 0.0, 1.0)
    paint(heart.veins - random.uniform(1.6, 2.6), 0.28 + random.uniform(0.3, 0.8) * scar)
    paint(heart.right_atrium, blood * random.uniform(0.9, 1.1) * flow)
    paint(heart.blood, blood * random.uniform(0.9, 1.12) * flow)
    paint(heart.veins, blood * (1.0 + 0.12 * _texture(shape, 4.0, random)))
    return image


def _acquired(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The image as scanned: blur, bias field, Rician noise, arbitrary units; float32."""
    from scipy import ndimage

    image = ndimage.gaussian_filter(image, random.uniform(0.5, 0.8))
    image = np.clip(image, 0.0, None) ** random.uniform(0.8, 1.25)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    terms = [*axes, *(a * b for n, a in enumerate(axes) for b in axes[n:])]
    bias = sum(random.normal(0, 0.12) * term for term in terms)
    image = image * np.exp(bias - bias.mean())
    level = random.uniform(0.04, 0.075)
    real = image + random.normal(0.0, level, image.shape)
    image = np.hypot(real, random.normal(0.0, level, image.shape))
    return (image * random.uniform(120, 400)).astype(np.float32)


def _texture(shape: Sequence[int], grain: float, random: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit deviation whose grains are about `grain` voxels."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(random.normal(size=shape), grain, mode="reflect")
    return noise / noise.std()


def _joined(*distances: np.ndarray, round_mm: float = 5.0) -> np.ndarray:
    """Union whose joints are rounded over about `round_mm`."""
    result = distances[0]
    for other in distances[1:]:
        mix = np.clip(0.5 + 0.5 * (other - result) / round_mm, 0.0, 1.0)
        result = other + (result - other) * mix - round_mm * mix * (1.0 - mix)
    return result
