"""Volumes: geometry, files there and back, boxes, resampling."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ugmcl_core.data.volume import (
    Grid,
    Volume,
    index_box,
    read,
    read_channels,
    read_grid,
    read_labels,
    resample,
    write,
)
from ugmcl_core.errors import InputError


def rotation(angles):
    matrix = np.eye(3)
    for (a, b), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        matrix = turn @ matrix
    return matrix


@st.composite
def grids(draw):
    shape = tuple(draw(st.integers(2, 7)) for _ in range(3))
    spacing = tuple(draw(st.floats(0.3, 9.0)) for _ in range(3))
    origin = tuple(draw(st.floats(-300, 300)) for _ in range(3))
    axes = rotation([draw(st.floats(-3.1, 3.1)) for _ in range(3)])
    if draw(st.booleans()):
        axes[:, 2] *= -1  # left-handed
    return Grid(shape, spacing, origin, tuple(map(tuple, axes.tolist())))


@settings(max_examples=25, deadline=None)
@given(grid=grids(), suffix=st.sampled_from([".nrrd", ".nii.gz", ".mha"]), seed=st.integers(0, 99))
def test_a_file_gives_back_voxels_and_places(tmp_path_factory, grid, suffix, seed):
    array = np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)
    path = tmp_path_factory.mktemp("v") / f"v{suffix}"
    write(path, Volume(array, grid))
    again = read(path)
    assert np.array_equal(again.array, array) and read_grid(path) == again.grid
    index = np.array([*(n - 1 for n in grid.shape), 1])
    # NIfTI keeps its axes in single precision
    assert np.allclose(again.grid.affine @ index, grid.affine @ index, atol=2e-3)


def test_places_agree_with_simpleitk(tmp_path):
    grid = Grid(
        (4, 5, 6), (1.5, 0.7, 3.0), (10, -20, 30), tuple(map(tuple, rotation((0.2, 0.5, -1))))
    )
    write(tmp_path / "v.nrrd", Volume(np.zeros(grid.shape, np.uint8), grid))
    image = sitk.ReadImage(str(tmp_path / "v.nrrd"))
    lps = image.TransformIndexToPhysicalPoint((3, 2, 5))
    ras = grid.affine @ [3, 2, 5, 1]
    assert np.allclose(np.array(lps) * [-1, -1, 1], ras[:3], atol=1e-5)


def test_a_dicom_series_is_read_from_its_folder(tmp_path):
    array = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(4):
        image = sitk.GetImageFromArray(array[k : k + 1])
        image.SetSpacing((0.8, 0.9, 2.5))
        for key, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.3",
            "0020|000d": "1.2",
            "0008|0018": f"1.2.3.{k}",
            "0020|0013": str(k),
            "0020|0032": f"0\\0\\{2.5 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(tmp_path / f"{k}.dcm"))
        writer.Execute(image)
    volume = read(tmp_path)
    assert volume.grid.shape == (5, 6, 4)
    assert np.allclose(volume.grid.spacing, (0.8, 0.9, 2.5))
    assert np.array_equal(volume.array.transpose(2, 1, 0), array)
    assert read_grid(tmp_path).same_as(volume.grid)


def test_the_grid_of_four_dimensions_is_that_of_each_channel(tmp_path):
    path = tmp_path / "case.nii.gz"
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.full((6, 5, 4), n)) for n in range(2)])
    image.SetSpacing((0.7, 0.8, 3.0, 1.0))
    sitk.WriteImage(image, str(path))
    assert read_grid(path) == read_channels(path)[1].grid


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_grid_without_a_usable_header_is_refused(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    with pytest.raises(InputError, match=f"v{suffix}: "):
        read_grid(path)
    path.write_text("no header")
    with pytest.raises(InputError, match=f"v{suffix}: "):
        read_grid(path)
    flat = tmp_path / f"flat{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((6, 5))), str(flat))
    with pytest.raises(InputError, match="2 dimensions; give a single 3D volume"):
        read_grid(flat)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="the folder holds no DICOM series"):
        read_grid(tmp_path / "folder")


def test_an_index_box_holds_the_centers_inside_the_ras_box():
    grid = Grid((20, 20, 20), (2.0, 2.0, 2.0), (-20, -20, -20))
    box = index_box(grid, (-11, -5, -20.9, -19.1, 0, 40))
    centers = [np.arange(20) * 2.0 - 20] * 3
    for chosen, values, low, high in zip(
        box, centers, (-11, -20.9, 0), (-5, -19.1, 40), strict=True
    ):
        wanted = np.flatnonzero((values + 1 > low) & (values - 1 < high))
        assert (chosen.start, chosen.stop) == (wanted[0], wanted[-1] + 1)


def test_a_turned_grid_gets_the_box_around_all_corners():
    axes = rotation((0, 0, 0.6))
    grid = Grid(
        (40,) * 3, (1, 1, 1), tuple((axes @ [-20, -20, -20]).tolist()), tuple(map(tuple, axes))
    )
    region = (-5, 5, -4, 6, -3, 3)
    box = index_box(grid, region)
    inverse = np.linalg.inv(grid.affine)
    for corner in itertools.product(region[:2], region[2:4], region[4:]):
        index = (inverse @ [*corner, 1])[:3]
        assert all(
            b.start - 0.5 - 1e-6 <= i <= b.stop - 0.5 + 1e-6
            for b, i in zip(box, index, strict=True)
        )


@pytest.mark.parametrize(
    "box", [(500, 600, 0, 1, 0, 1), (1, 0, 0, 1, 0, 1), (0, 1, 2), (0, float("nan"), 0, 1, 0, 1)]
)
def test_impossible_boxes_are_refused(box):
    with pytest.raises(InputError):
        index_box(Grid((5, 5, 5)), box)


def test_cropping_keeps_places():
    grid = Grid((9, 8, 7), (1, 2, 3), (5, 5, 5), tuple(map(tuple, rotation((0.3, 0.2, 0.1)))))
    part = grid.cropped((slice(2, 5), slice(1, 8), slice(3, 4)))
    assert np.allclose(part.affine @ [1, 2, 0, 1], grid.affine @ [3, 3, 3, 1])


def test_resampling_onto_a_grid_finds_the_same_places():
    axes = tuple(map(tuple, rotation((0, 0, 0.4))))
    source = Grid((30, 30, 10), (1, 1, 2), (-15, -15, -10), axes)
    index = np.stack(np.meshgrid(*map(np.arange, source.shape), indexing="ij"), -1)
    ras = index @ source.affine[:3, :3].T + source.affine[:3, 3]
    field = (ras @ [1.0, -2.0, 0.5]).astype(np.float32)
    target = Grid((6, 6, 4), (1.3, 1.1, 0.9), (-2, -3, -1))
    got = resample(Volume(field, source), target).array
    places = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), -1)
    wanted = (places @ target.affine[:3, :3].T + target.affine[:3, 3]) @ [1.0, -2.0, 0.5]
    assert np.allclose(got, wanted, atol=1e-3)


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz"])
def test_complex_images_do_not_lose_their_imaginary_part(suffix, kind, tmp_path):
    image = sitk.GetImageFromArray(np.full((3, 4, 5), 1 + 2j, kind))
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(image, str(path))
    for reader in (read, read_labels):
        with pytest.raises(InputError, match=r"v\..*complex.*magnitude"):
            reader(path)


def test_labels_must_be_whole_numbers(tmp_path):
    write(tmp_path / "l.nrrd", Volume(np.full((3, 3, 3), 0.5, np.float32), Grid((3, 3, 3))))
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(tmp_path / "l.nrrd")


def test_grids_differ_when_anything_visible_does():
    grid = Grid((5, 5, 5))
    assert grid.same_as(Grid((5, 5, 5), (1.00001, 1, 1)))
    assert not grid.same_as(Grid((5, 5, 5), (1.01, 1, 1)))
    assert not grid.same_as(Grid((5, 5, 5), origin=(0.1, 0, 0)))
    assert not grid.same_as(Grid((5, 5, 6)))


def layered(path, values) -> None:
    """A segmentation as Slicer saves it: a ball inside of a box, in layers of their own."""
    box = np.zeros((12, 10, 8), np.uint8)
    box[2:10, 2:8, 1:7] = values[0]
    inner = np.zeros_like(box)
    inner[4:7, 4:6, 3:5] = values[1]
    voxels = np.stack([inner, box]).tobytes(order="F")
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\n"
        "sizes: 2 12 10 8\nspace directions: none (1,0,0) (0,1,0) (0,0,2)\n"
        "kinds: list domain domain domain\nencoding: raw\nspace origin: (1,2,3)\n"
        "Segment0_Layer:=1\nSegment1_Layer:=0\n\n"
    )
    path.write_bytes(head.encode() + voxels)


def test_overlapping_segments_of_a_file_are_all_read(tmp_path):
    layered(tmp_path / "a.seg.nrrd", (1, 2))
    found = read_labels(tmp_path / "a.seg.nrrd")
    assert found.grid.spacing == (1, 1, 2) and found.grid.shape == (12, 10, 8)
    assert (found.array == 2).sum() == 3 * 2 * 2, "the smaller one shows inside of the larger one"
    assert (found.array == 1).sum() == 8 * 6 * 6 - 12


def test_overlapping_segments_of_one_value_are_refused(tmp_path):
    layered(tmp_path / "a.seg.nrrd", (1, 1))
    with pytest.raises(InputError, match="two of them have the label value 1"):
        read_labels(tmp_path / "a.seg.nrrd")
