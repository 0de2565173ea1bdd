"""Cases of several images: read from one file or from several, prepared channel by channel."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from samples import ball, on_grid

from ugmcl_core.data import guarded, volume
from ugmcl_core.data.cases import Case, Representation, find_cohort, prepare_case, prepare_cases
from ugmcl_core.data.pairing import Channels
from ugmcl_core.data.preprocessing import Normalization, prepare
from ugmcl_core.data.volume import Grid, Volume
from ugmcl_core.errors import InputError

SHAPE, SPACING = (12, 10, 8), (1.0, 1.5, 2.0)
NAMES = ("t1", "t2", "flair")


def images(count=3, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(100 * (n + 1), 20, SHAPE).astype(np.float32) for n in range(count)]


def one_file(path, arrays, vector=False):
    """The arrays as a fourth dimension, or as components of each voxel."""
    if vector:
        stack = sitk.GetImageFromArray(np.stack([a.transpose(2, 1, 0) for a in arrays], -1), True)
        stack.SetSpacing(SPACING)
    else:
        parts = [sitk.GetImageFromArray(a.transpose(2, 1, 0)) for a in arrays]
        for part in parts:
            part.SetSpacing(SPACING)
        stack = sitk.JoinSeries(parts)
    sitk.WriteImage(stack, str(path))
    return path


@pytest.mark.parametrize("reader", [volume.read_images, guarded.read_images])
@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_one_file_holds_the_channels_of_a_case(tmp_path, vector, suffix, reader):
    arrays = images()
    path = one_file(tmp_path / f"case{suffix}", arrays, vector)
    found = reader([path], 3)
    assert len(found) == 3
    for array, one in zip(arrays, found, strict=True):
        assert np.array_equal(one.array, array)
        assert one.grid.spacing == pytest.approx(SPACING)
    with pytest.raises(InputError, match="holds 3 channels, and a case has 2"):
        reader([path], 2)
    with pytest.raises(InputError, match=r"4 dimensions|3 components"):
        reader([path], 1)  # no series over time for an image


def test_colors_are_no_channels(tmp_path):
    path = one_file(tmp_path / "photo.nrrd", [a.astype(np.uint8) for a in images()], True)
    text = path.read_bytes().replace(b"kinds: vector domain", b"kinds: RGB-color domain")
    path.write_bytes(text)
    with pytest.raises(InputError, match="the voxels are colors"):
        volume.read_images([path], 3)


def test_files_of_a_case_need_one_grid(tmp_path):
    paths = [tmp_path / f"p_{name}.nrrd" for name in NAMES[:2]]
    first, second = images(2)
    volume.write(paths[0], Volume(first, Grid(SHAPE, SPACING)))
    volume.write(paths[1], Volume(second, Grid(SHAPE, SPACING, (0.04, 0.0, 0.0))))
    found = guarded.read_images(paths, 2)  # rounded headers
    assert found[0].grid == found[1].grid == Grid(SHAPE, SPACING)
    volume.write(paths[1], Volume(second, Grid(SHAPE, SPACING, (0.2, 0.0, 0.0))))
    with pytest.raises(InputError, match=r"p_t2.nrrd: is on a different grid than p_t1.nrrd"):
        guarded.read_images(paths, 2)
    with pytest.raises(InputError, match=r"p_t1.nrrd: holds one image, and a case has 2"):
        guarded.read_images(paths[:1], 2)
    with pytest.raises(InputError, match="these are 2 images, and a case has 3"):
        guarded.read_images(paths, 3)


def test_each_channel_is_normalized_by_itself():
    volumes = [on_grid(a) for a in images(2)]
    robust, window = Normalization(), Normalization("window", 150.0, 250.0)
    alike = prepare(volumes, (1.0,) * 3, robust).image
    for channel, one in zip(alike, volumes, strict=True):
        assert torch.equal(channel, prepare(one, (1.0,) * 3, robust).image[0])
    own = prepare(volumes, (1.0,) * 3, (robust, window)).image
    assert torch.equal(own[0], alike[0])
    assert torch.equal(own[1], prepare(volumes[1], (1.0,) * 3, window).image[0])
    volumes[1] = on_grid(np.ones(SHAPE, np.float32))
    with pytest.raises(InputError, match="channel 2 of 2: the image, or its region"):
        prepare(volumes, (1.0,) * 3, robust)


def test_the_file_of_a_constant_channel_is_named(tmp_path):
    arrays = [*images(1), np.ones(SHAPE, np.float32)]
    paths = [tmp_path / f"p_{name}.nrrd" for name in NAMES[:2]]
    for path, array in zip(paths, arrays, strict=True):
        volume.write(path, on_grid(array, SPACING))
    representation = Representation(SPACING, Normalization())
    with pytest.raises(InputError, match=r"p_t2\.nrrd: the image, or its region of interest, is"):
        prepare_case(Case("p", paths[0], further=(paths[1],)), representation)
    whole = one_file(tmp_path / "p.nrrd", arrays)
    with pytest.raises(InputError, match=r"p\.nrrd: channel 2 of 2: the image, or its region"):
        prepare_case(Case("p", whole, stacked=2), representation)


@pytest.fixture
def folder(tmp_path):
    """Two labeled cases and one unlabeled, of three numbered channels."""
    for n, name in enumerate("abc"):
        for number, array in enumerate(images(seed=n)):
            path = tmp_path / "images" / f"{name}_{number:04d}.nrrd"
            path.parent.mkdir(exist_ok=True)
            volume.write(path, on_grid(array))
    (tmp_path / "labels").mkdir()
    for name in "ab":
        mask = ball(SHAPE, (6, 5, 4), 3.0).astype(np.uint8)
        volume.write(tmp_path / "labels" / f"{name}.nrrd", on_grid(mask))
    return tmp_path


def test_a_cohort_has_the_channels_that_its_names_show(folder):
    places = folder / "images", folder / "labels"
    found = find_cohort(*places)
    assert found.channels == ("0000", "0001", "0002")
    assert [c.name for c in (*found.labeled, *found.unlabeled)] == ["a", "b", "c"]
    assert [len(c.images) for c in found.labeled] == [3, 3]
    assert find_cohort(*places, channels=Channels(NAMES)).channels == NAMES
    names = '{"labels": {"x": 1}, "channel_names": {"0": "T1", "1": "T2", "2": "PD"}}'
    (folder / "dataset.json").write_text(names)
    assert find_cohort(*places).channels == ("T1", "T2", "PD")
    (folder / "images/b_0001.nrrd").unlink()
    said = []
    found = find_cohort(*places, notice=said.append)
    assert [c.name for c in found.labeled] == ["a"] and "b has no T2 (b_0001)" in said[0]


def test_files_with_four_dimensions_are_channels_where_the_data_set_says_so(folder):
    for path in (folder / "images").iterdir():
        path.unlink()
    for name in "ab":
        one_file(folder / "images" / f"{name}.nii.gz", images())
    names = '{"0": "FLAIR", "1": "T1w", "2": "T2w"}'
    (folder / "dataset.json").write_text(f'{{"labels": {{"1": "x"}}, "modality": {names}}}')
    found = find_cohort(folder / "images", folder / "labels")
    assert found.channels == ("FLAIR", "T1w", "T2w")
    assert {c.stacked for c in found.labeled} == {3} and found.labeled[0].channels == 3
    (folder / "dataset.json").unlink()
    found = find_cohort(folder / "images", folder / "labels")
    assert found.channels == ("image",) and found.labeled[0].channels == 1


def test_a_prepared_case_has_all_channels_and_is_made_anew_if_one_changes(folder):
    case = find_cohort(folder / "images", folder / "labels").labeled[0]
    r = Representation((1.0,) * 3, Normalization())
    prepared = prepare_case(case, r)
    assert prepared.image.shape == (3, *SHAPE) and prepared.fractions.shape == (1, *SHAPE)
    alone = prepare_case(Case("a", case.images[2], case.label), r)
    assert np.array_equal(prepared.image[2:], alone.image)

    def kept():
        (found,) = prepare_cases([case], r, cache=folder / "cache", budget=0)
        return found.opened().image

    before = kept()
    volume.write(case.images[1], on_grid(images(seed=9)[0]))
    after = kept()
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before[1], after[1])
