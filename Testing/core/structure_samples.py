"""Generated cases of other kinds than the atrium: each function of a seed gives image and labels.

`stack`: ten thick slices through two ventricles and the muscle between them, shifted against each
other as breath holds shift them. `ventricles`: the same as real stacks show it, a small part of a
large field. `small`: a little gland beside bone in a fine CT-like volume. `vessels`: a tree of
thin ones. `sides`: two organs of one look, left and right, among others. `halves`: two registered
images of a lesion, of which each shows a half. `abdomen`: a little gland in a large CT-like
volume.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from ugmcl_core.data.volume import Grid, Volume, write

FAMILIES: dict[str, Callable[[int], tuple[Volume | tuple[Volume, ...], Volume]]] = {}


def family(make):
    FAMILIES[make.__name__] = make
    return make


def write_family(root: Path, name: str, count: int, first: int = 0) -> Path:
    """So many cases as files in ``root``/images and ``root``/labels; several images of a case are
    numbered as nnU-Net does it."""
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        case, (images, labels) = f"{name}{seed:03d}", FAMILIES[name](seed)
        write(root / "labels" / f"{case}.nrrd", labels)
        if isinstance(images, Volume):
            write(root / "images" / f"{case}.nrrd", images)
            continue
        for number, image in enumerate(images):
            write(root / "images" / f"{case}_{number:04d}.nrrd", image)
    return root


def _points(shape, spacing) -> np.ndarray:
    """Voxel centers in mm from the middle, (3, I, J, K)."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _texture(rng, shape, grain) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.normal(size=shape), grain)
    return noise / noise.std()


def _ball(points, center, radii) -> np.ndarray:
    """Up to 1 inside an ellipsoid."""
    parts = ((p - c) / r for p, c, r in zip(points, center, radii, strict=True))
    return np.sqrt(sum(p * p for p in parts))


@family
def stack(seed: int) -> tuple[Volume, Volume]:
    """96x96x10 voxels of 1.8x1.8x10 mm: 1 left ventricle, 2 its muscle, 3 right ventricle."""
    rng = np.random.default_rng([seed, 1])
    shape, spacing = (96, 96, 10), (1.8, 1.8, 10.0)
    image, labels = np.zeros(shape), np.zeros(shape, np.uint8)
    x, y = _points(shape, spacing)[:2, :, :, 0]
    turn, center = rng.uniform(-0.7, 0.7), rng.uniform(-14, 14, 2)
    size, wall = rng.uniform(0.85, 1.15), rng.uniform(7, 10)
    blood, muscle, fat = rng.uniform(0.7, 0.95), rng.uniform(0.25, 0.4), rng.uniform(0.5, 0.9)
    others = [(rng.uniform(-80, 80, 2), rng.uniform(8, 22, 2), rng.uniform(0.1, 1.0))
              for _ in range(7)]  # fmt: skip
    for k in range(10):
        depth = (k + rng.uniform(-0.2, 0.2)) / 9
        u, v = x - center[0] + rng.normal(0, 2), y - center[1] + rng.normal(0, 2)
        u, v = u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)
        plane = np.where(np.hypot(x / 85, y / 70) < 1, 0.45, 0.05)
        plane = np.where((plane > 0.1) & (np.hypot(x / 78, y / 63) > 1), fat, plane)
        for place, radii, value in others:
            spot = np.hypot((x - place[0]) / radii[0], (y - place[1]) / radii[1]) < 1
            plane = np.where(spot & (plane > 0.1), value, plane)
        if 0.05 < depth < 0.95:
            inner = size * 24 * np.sqrt(1 - 0.75 * depth**2)
            around = np.hypot(u, v)
            right = np.hypot((u + 0.9 * (inner + wall)) / (1.25 * inner), v / (1.5 * inner)) < 1
            right &= (around > inner + wall) & (depth < 0.8)
            right &= u < 0
            ring = around < inner + wall
            plane = np.where(np.hypot(u + 12, v) < 2.4 * inner + 6, 0.12, plane)
            plane = np.where(right, blood * 0.95, np.where(ring, muscle, plane))
            plane = np.where(around < inner, blood, plane)
            mark = np.where(around < inner, 1, np.where(ring, 2, np.where(right, 3, 0)))
            labels[:, :, k] = mark
        image[:, :, k] = plane
    image = ndimage.gaussian_filter(image, (0.7, 0.7, 0))
    image *= np.exp(0.25 * _texture(rng, shape, (40, 40, 3)))
    image += rng.normal(0, 0.06, shape)
    image = (image * rng.uniform(200, 900)).clip(0)
    grid = Grid(shape, spacing)
    return Volume(image.astype(np.int16), grid), Volume(labels, grid)


@family
def small(seed: int) -> tuple[Volume, Volume]:
    """112x112x56 voxels of 0.5x0.5x0.8 mm in Hounsfield units: 1 a gland of about 7 mm."""
    rng = np.random.default_rng([seed, 2])
    shape, spacing = (112, 112, 56), (0.5, 0.5, 0.8)
    points = _points(shape, spacing)
    points = points + np.stack([0.8 * _texture(rng, shape, 9) for _ in range(3)])
    image = np.where(_ball(points, (0, 0, 0), (27, 25, 50)) < 1, 40.0, -1000.0)
    shell = _ball(points, (0, 0, 0), (27, 25, 50))
    image[(shell > 0.9) & (shell < 1)] = -90
    place = np.array((0.0, 3.0, 0.0)) + rng.uniform(-3, 3, 3)
    bone = _ball(points, place + np.array((0, 9, 0)), (11, 6, 12)) < 1
    image[bone] = rng.uniform(350, 700) + 120 * _texture(rng, shape, 1.0)[bone]
    for side in (-12, 12):  # vessels with contrast
        image[_ball(points, place + np.array((side, -2, 0)), (4, 4, 60)) < 1] = 190
    for _ in range(14):  # what looks like it elsewhere
        spot = _ball(points, rng.uniform(-19, 19, 3), rng.uniform(2, 4, 3)) < 1
        image[spot & (image == 40)] = 85
    radii = rng.uniform(0.85, 1.15, 3) * (4.2, 2.6, 3.2)
    gland = _ball(points, place + np.array((0, 0.5, 0)), radii) < 1
    gland &= ~bone
    image[gland] = 85
    image[_ball(points, place + np.array((0, -17, 0)), (8, 5, 50)) < 1] = -950  # an airway
    image = ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 14, shape)
    grid = Grid(shape, spacing)
    return Volume(image.round().astype(np.int16), grid), Volume(gland.astype(np.uint8), grid)


@family
def vessels(seed: int) -> tuple[Volume, Volume]:
    """88x88x64 voxels of 0.7 mm in Hounsfield units: 1 a tree of vessels of 1.2 to 4 mm, among
    bones and nodules that are as bright."""
    rng = np.random.default_rng([seed, 6])
    shape, spacing = (88, 88, 64), (0.7, 0.7, 0.7)
    points = _points(shape, spacing)
    image = 45.0 + 12 * _texture(rng, shape, 4)
    image[_ball(points, (0, 0, 0), (36, 36, 90)) > 1] = -900  # air
    tree = np.full(shape, np.inf)  # mm from the vessels' surface, negative inside
    grow = [(np.array((*rng.uniform(-6, 6, 2), -24.0)), np.array((0.0, 0.0, 1.0)), 2.0)]
    while grow:
        start, way, radius = grow.pop()
        way = way + rng.normal(0, 0.18, 3)
        end = start + way / np.linalg.norm(way) * rng.uniform(10, 15) * (0.6 + 0.2 * radius)
        tree = np.minimum(tree, _tube(points, start, end, radius, 0.9 * radius))
        if radius < 0.7 or np.abs(end).max() > 30:
            continue
        side = np.cross(way, rng.normal(size=3))
        side *= rng.uniform(0.5, 0.9) / np.linalg.norm(side)
        grow += [(end, way + side, 0.78 * radius), (end, way - side, 0.72 * radius)]
    for _ in range(3):  # bones
        bone = _ball(points, rng.uniform(-24, 24, 3), rng.uniform(4, 7, 3)) < 1
        image[bone & (tree > 1)] = rng.uniform(220, 500)
    for _ in range(14):
        spot = _ball(points, rng.uniform(-28, 28, 3), rng.uniform(1.2, 2.5, 3)) < 1
        image[spot & (tree > 1)] = rng.uniform(180, 300)
    inside = np.clip(0.5 - tree / 0.7, 0, 1)  # of each voxel
    image += inside * (rng.uniform(200, 280) - image)
    image = ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 18, shape)
    grid = Grid(shape, spacing)
    labels = (tree < 0).astype(np.uint8)
    return Volume(image.round().astype(np.int16), grid), Volume(labels, grid)


def _tube(points, start, end, first, last) -> np.ndarray:
    """The distance to a cone-like tube between two points, negative inside."""
    along = end - start
    offset = points - start[:, None, None, None]
    part = np.clip(np.tensordot(along, offset, 1) / (along @ along), 0, 1)
    gap = offset - along[:, None, None, None] * part
    return np.sqrt((gap * gap).sum(0)) - (first + (last - first) * part)


@family
def sides(seed: int) -> tuple[Volume, Volume]:
    """112x80x56 voxels of 3 mm in Hounsfield units: 1 the organ on the right, 2 its twin."""
    rng = np.random.default_rng([seed, 3])
    shape, spacing = (112, 80, 56), (3.0, 3.0, 3.0)
    points = _points(shape, spacing)
    points = points + np.stack([4 * _texture(rng, shape, 9) for _ in range(3)])
    body = _ball(points, (0, 0, 0), (160, 112, 400)) < 1
    image = np.where(body, -100.0, -1000.0)
    image[_ball(points, (0, 0, 0), (145, 97, 400)) < 1] = 45
    image[_ball(points, (0, -62, 0), (20, 22, 400)) < 1] = 420  # the spine lies behind
    for _ in range(9):
        spot = _ball(points, rng.uniform((-110, -10, -80), (110, 70, 80)), rng.uniform(12, 34, 3))
        image[spot < 1] = rng.uniform(-60, 130)
    labels = np.zeros(shape, np.uint8)
    up = rng.uniform(-22, 22, 2)
    for value, side in ((1, 1), (2, -1)):
        middle = np.array((side * 62, -42 + rng.uniform(-8, 8), up[value - 1]))
        radii = rng.uniform(0.85, 1.15, 3) * (24, 20, 44)
        organ = _ball(points, middle, radii) < 1
        organ &= _ball(points, middle + np.array((-side * 26, 4, 0)), (16, 14, 18)) > 1
        labels[organ] = value
        image[organ] = 95 + 12 * rng.normal()
    image = ndimage.gaussian_filter(image, 0.5) + rng.normal(0, 18, shape)
    grid = Grid(shape, spacing)
    return Volume(image.round().astype(np.int16), grid), Volume(labels, grid)


@family
def halves(seed: int) -> tuple[tuple[Volume, Volume], Volume]:
    """Two images of 48x48x28 voxels of 2 mm: 1 a lesion of two touching lobes in a random
    direction, of which each image shows one, among dark spots that both show."""
    rng = np.random.default_rng([seed, 4])
    shape, spacing = (48, 48, 28), (2.0, 2.0, 2.0)
    points = _points(shape, spacing)
    points = points + np.stack([2 * _texture(rng, shape, 5) for _ in range(3)])
    head = _ball(points, (0, 0, 0), (45, 43, 55)) < 1
    place = rng.uniform((-14, -14, -5), (14, 14, 5))
    way = rng.normal(size=3) * (1, 1, 0.7)
    way /= np.linalg.norm(way)
    centers = [place + side * 8.5 * way for side in (1, -1)]
    lobes = [_ball(points, center, rng.uniform(11, 13, 3)) < 1 for center in centers]
    lobes[1] &= ~lobes[0]
    spots = [(rng.uniform(-34, 34, 3), rng.uniform(4, 9, 3), rng.uniform(0.1, 0.25))
             for _ in range(8)]  # fmt: skip
    images = []
    for lobe, tissue in zip(lobes, (0.35, 0.5), strict=True):
        image = np.where(head, tissue * (1 + 0.15 * _texture(rng, shape, 3)), 0.02)
        for spot, radii, value in spots:
            image[(_ball(points, spot, radii) < 1) & head & ~lobes[0] & ~lobes[1]] = value
        image[lobe] = 1.0
        image = ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 0.05, shape)
        images.append((image * rng.uniform(200, 900)).clip(0).astype(np.int16))
    grid = Grid(shape, spacing)
    labels = np.logical_or(*lobes).astype(np.uint8)
    return tuple(Volume(image, grid) for image in images), Volume(labels, grid)


@family
def abdomen(seed: int) -> tuple[Volume, Volume]:
    """512x512x300 voxels of 0.7x0.7x1 mm in Hounsfield units: 1 a gland of about 18x12x22 mm (one
    voxel in 16,000) between kidney, spine and vessels, among as bright loops."""
    rng = np.random.default_rng([seed, 7])
    shape, spacing = (512, 512, 300), (0.7, 0.7, 1.0)
    image = np.full(shape, -1000, np.float32)
    labels = np.zeros(shape, np.uint8)

    def draw(center, radii, value, mark: int | None = None) -> None:
        center, radii = np.asarray(center, float), np.asarray(radii, float)
        middle = (np.array(shape) - 1) / 2
        low = np.floor(middle + (center - radii) / spacing).astype(int).clip(0)
        high = np.ceil(middle + (center + radii) / spacing).astype(int).clip(0) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        x, y, z = (
            ((np.arange(side.start, min(side.stop, n)) - m) * s - c) / r
            for side, n, m, s, c, r in zip(box, shape, middle, spacing, center, radii, strict=True)
        )
        inside = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2 < 1
        image[box][inside] = value
        labels[box][inside] = 0 if mark is None else mark

    wide = rng.uniform(0.9, 1.1)
    draw((0, 0, 0), (165 * wide, 120 * wide, 900), -100)  # fat
    draw((0, 0, 0), (150 * wide, 105 * wide, 900), 45)
    draw((0, 10, 0), (135 * wide, 85 * wide, 900), -90)  # the cavity
    up = rng.uniform(-25, 25)
    for _ in range(45):  # loops, some as bright as the gland
        place = rng.uniform((-105, -20, -140), (105, 75, 10 + up))
        draw(place, rng.uniform(8, 17, 3), rng.uniform(10, 110))
    draw((75, 20, 50 + up), (65, 65, 80), rng.uniform(90, 120))  # the liver
    draw((-85, -5, 55 + up), (35, 40, 45), rng.uniform(95, 130))  # the spleen
    for side in (1, -1):
        draw((side * 62, -38, -15 + up), (26, 24, 50), rng.uniform(150, 200))  # kidneys
    for k in range(-160, 160, 32):
        draw((0, -62, k), (22, 22, 13), rng.uniform(200, 300))  # the spine
    draw((-10, -28, 0), (10, 10, 900), 220)  # aorta and vein
    draw((16, -26, 0), (11, 9, 900), 150)
    place = np.array((-38, -30, 46 + up)) + rng.uniform(-5, 5, 3)
    draw(place, rng.uniform(0.85, 1.15, 3) * (9, 6, 11), 75, 1)
    image = ndimage.gaussian_filter(image, 0.8, truncate=2.0)
    image += 14 * rng.standard_normal(shape, np.float32)
    grid = Grid(shape, spacing)
    return Volume(image.round().astype(np.int16), grid), Volume(labels, grid)


@family
def ventricles(seed: int) -> tuple[Volume, Volume]:
    """216x256 voxels of about 1.5 mm in 8 to 11 slices of 10 mm, like cine MR in short-axis view:
    1 left ventricle, 2 its muscle, 3 right ventricle.

    The heart lies among fat, lungs, liver, stomach, spine and aorta. Slices beyond its base, which
    show the atria, and beyond its apex have no structure. A slice is the mean over its thickness,
    breath holds shift and brighten it, papillary muscles and trabeculae belong to the cavities,
    and coils, contrast and noise vary. Hearts are normal, dilated or thick, full or contracted.
    """
    rng = np.random.default_rng([seed, 5])
    slices, across = int(rng.integers(8, 12)), 3  # so many planes make a slice
    spacing = (*[float(rng.uniform(1.35, 1.65))] * 2, 10.0)
    shape = (216, 256, slices)
    kind, contracted = rng.choice(["normal", "dilated", "thick", "right"]), rng.random() < 0.5
    cavity = rng.uniform(21, 26) + 8 * (kind == "dilated") - 2 * (kind == "thick")
    wall = rng.uniform(7.5, 10) + rng.uniform(3, 6) * (kind == "thick") - (kind == "dilated")
    if contracted:
        cavity, wall = cavity * (0.85 if kind == "dilated" else 0.68), wall * 1.3
    wide = rng.uniform(0.8, 1.05) + 0.3 * (kind == "right")
    blood, muscle = rng.uniform(0.65, 0.9), rng.uniform(0.2, 0.34)
    fat, flesh = rng.uniform(0.7, 1.3), rng.uniform(0.2, 0.35)
    lung, liver, stomach = rng.uniform((0.04, 0.25, 0.1), (0.1, 0.45, 0.8))
    x, y = _points(shape, spacing)[:2, :, :, 0]
    x, y = (p + 4 * _texture(rng, shape[:2], 22) for p in (x, y))
    center, turn = rng.uniform((-25, 5), (15, 35)), rng.uniform(-0.6, 0.6)
    body, thorax = rng.uniform(135, 160), rng.uniform(105, 120)
    vessels = [(rng.uniform(-90, 90, 2), rng.uniform(2, 5)) for _ in range(40)]
    muscles = rng.uniform((-0.9, 1.9), (-0.3, 2.6))  # where the papillary ones are
    tilt, base = rng.normal(0, 1.0, 2), rng.uniform(-0.2, 1.6)  # the base in slices
    length = rng.uniform(7.2, 9.2) * (0.9 if contracted else 1.0)
    grain = _texture(rng, shape[:2], 1.6)
    skin, chest = (np.hypot(x / w, y / (0.7 * w)) for w in (body, thorax))
    inner = chest < 1
    around = np.full(shape[:2], 0.02)
    around[skin < 1] = fat
    around[skin < 0.9] = flesh
    around[inner] = lung
    for place, radius in vessels:
        around[(np.hypot(x - place[0], y - place[1]) < radius) & inner] = 0.6 * blood
    around[np.hypot(x / 45, (y + 92) / 26) < 1] = flesh
    around[np.hypot(x / 18, (y + 88) / 16) < 1] = 0.5 * fat  # the spine
    place = center + rng.normal(0, 6, 2) + (28, -62)
    around[np.hypot(x - place[0], y - place[1]) < 12] = blood  # the aorta
    image, labels = np.zeros(shape), np.zeros(shape, np.uint8)
    for k in range(slices):
        plane, low = around.copy(), k / slices
        plane[inner & (np.hypot((x + 75) / 70, (y - 10) / 60) < 1.5 * low - 0.3)] = liver
        plane[inner & (np.hypot((x - 70) / 45, (y - 35) / 35) < 1.6 * low - 0.4)] = stomach
        moved = center + tilt * (k - slices / 2) + rng.normal(0, 2.2, 2)
        u, v = x - moved[0], y - moved[1]
        u, v = u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)
        if -0.5 < (k - base) / length < 1.15:
            sack = np.hypot((u + 14) / (1.6 * cavity + 16), v / (1.45 * cavity + 14)) < 1
            plane[sack & inner] = 0.8 * fat
        votes = np.zeros((4, *shape[:2]))
        for at in (np.arange(across) + 0.5) / across - 0.5:
            part, mark = plane.copy(), np.zeros(shape[:2], np.uint8)
            _heart(part, mark, u, v, (k + at - base) / length, cavity, wall, wide, blood, muscle,
                   grain, muscles)  # fmt: skip
            image[:, :, k] += part / across
            votes += mark == np.arange(4)[:, None, None]
        labels[:, :, k] = votes.argmax(0)
    image = ndimage.gaussian_filter(image, (0.8, 0.8, 0))
    image *= 1 + 0.06 * _texture(rng, shape, (2, 2, 0.5))
    ramp = rng.normal(0, 0.35, 2) / 120
    image *= np.exp(ramp[0] * x + ramp[1] * y + 0.2 * _texture(rng, shape[:2], 45))[:, :, None]
    image *= np.exp(rng.normal(0, 0.06, slices))
    image = np.hypot(image + rng.normal(0, 0.035, shape), rng.normal(0, 0.035, shape))
    grid = Grid(shape, spacing)
    image = (image * rng.uniform(150, 900)).astype(np.int16)
    return Volume(image, grid), Volume(labels, grid)


def _heart(plane, mark, u, v, depth, cavity, wall, wide, blood, muscle, grain, muscles) -> None:
    """Draw a plane of `ventricles` at ``depth``, 0 at the base and 1 at the apex."""
    around, septum = np.hypot(u, 1.06 * v), 0.75
    if -0.45 < depth < 0:  # the atria, and the root of the aorta
        plane[np.hypot(u - 4, v + 8) < 0.95 * cavity] = blood
        plane[np.hypot(u + 1.7 * cavity, v + 4) < 0.9 * cavity] = 0.93 * blood
        root = np.hypot(u + 10, v - 24)
        plane[root < 15.5] = muscle
        plane[root < 13] = blood
    if not 0 <= depth < 1:
        return
    shrink = np.sqrt(1 - depth**2.2)
    inside = cavity * shrink
    outside = inside + wall * (0.65 + 0.35 * shrink)
    r = wide * cavity * np.sqrt(max(0.01, 1 - (depth / 0.85) ** 2))
    place = u + septum * outside
    right = (np.hypot(place / 1.15, v / 1.45) < r) & (around >= outside) & (u < 0.2 * inside)
    if r > 0.2 * cavity:
        plane[(np.hypot(place / 1.15, v / 1.45) < r + 2.5) & (u < 0.2 * inside)] = muscle
        plane[right] = 0.93 * blood
        plane[right & (grain > 1.3)] = muscle
        mark[right] = 3
    plane[around < outside], mark[around < outside] = muscle, 2
    left = around < inside
    plane[left], mark[left] = blood, 1
    plane[left & (around > 0.85 * inside) & (grain > 0.9)] = muscle
    if 0.25 < depth < 0.85:
        for way in muscles:
            spot = np.hypot(u - 0.6 * inside * np.cos(way), v - 0.6 * inside * np.sin(way))
            plane[left & (spot < 0.17 * inside)] = muscle
