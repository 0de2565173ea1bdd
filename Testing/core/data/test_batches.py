"""Patches, augmentation and two-stream batches."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ugmcl_core.data import batches as batching
from ugmcl_core.data import cases
from ugmcl_core.data.augmentation import (
    Augmentation,
    Pose,
    cut,
    draw_flips,
    draw_pose,
    few_axes,
    turn,
    vary_intensity,
)
from ugmcl_core.data.batches import BatchSettings, BatchSource, batches, make_batch, pick
from ugmcl_core.data.cases import (
    Case,
    Representation,
    find_cohort,
    prepare_case,
    prepare_cases,
    read_pair,
)
from ugmcl_core.data.preprocessing import Normalization
from ugmcl_core.data.volume import Grid, Volume, write
from ugmcl_core.errors import InputError
from ugmcl_core.nn.level_sets import signed_distance
from ugmcl_core.nn.schedules import Step

REPRESENTATION = Representation((1.0,) * 3, Normalization("z-score"))
IDENTITY = np.eye(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four images, labels for three; a ball whose intensity is its label."""
    root = tmp_path_factory.mktemp("cases")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    rng = np.random.default_rng(0)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (24, 20, 18)], indexing="ij"), -1)
    for number in range(4):
        ball = np.linalg.norm(index - [11 + number, 9, 8], axis=-1) < 5
        grid = Grid(ball.shape)
        image = 50.0 * ball + rng.normal(0, 5, ball.shape)
        write(root / f"images/c{number}.nrrd", Volume(image.astype(np.float32), grid))
        if number < 3:
            write(root / f"labels/c{number}.nrrd", Volume(ball.astype(np.uint8), grid))
    return root


@pytest.fixture(scope="module")
def prepared(folder):
    cohort = find_cohort(folder / "images", folder / "labels")
    return (
        [prepare_case(c, REPRESENTATION) for c in cohort.labeled],
        [prepare_case(c, REPRESENTATION) for c in cohort.unlabeled],
    )


def names(cases):
    return [c.name for c in cases]


def test_cases_are_found_by_name(folder):
    images, labels = folder / "images", folder / "labels"
    cohort = find_cohort(images, labels)
    assert (names(cohort.labeled), names(cohort.unlabeled)) == (["c0", "c1", "c2"], ["c3"])
    cohort = find_cohort(images, labels, labeled=["c1"], exclude=["c0"], holdout=["c2"])
    assert names(cohort.labeled) == ["c1"]
    assert names(cohort.unlabeled) == ["c3"] and names(cohort.holdout) == ["c2"]


@pytest.mark.parametrize(
    "options,message",
    [
        ({"labeled": ["nobody"]}, "no image for the labeled case nobody"),
        ({"labeled": ["c3"]}, "no label for the case c3"),
        ({"labeled": ["c0"], "holdout": ["c0"]}, "both labeled for training and held out"),
        ({"holdout": ["c0", "c1", "c2"]}, "no labeled case is left"),
    ],
)
def test_wrong_names_are_named(folder, options, message):
    with pytest.raises(InputError, match=message):
        find_cohort(folder / "images", folder / "labels", **options)


def test_prepared_cases_hold_fractions_distances_and_places(prepared):
    case = prepared[0][0]
    assert case.image.shape == (1, 24, 20, 18) and case.fractions.shape == (1, 24, 20, 18)
    inside = case.fractions[0] > 0.5
    assert np.array_equal(case.distance[0] < 0, inside)
    assert case.distance[0, 11, 9, 8] == pytest.approx(-4.5, abs=0.6)
    assert all(inside[tuple(p)] for p in case.foreground_voxels[0])


def test_unknown_classes_and_empty_labels_are_refused(folder, tmp_path):
    label = tmp_path / "c0.nrrd"
    grid = Grid((24, 20, 18))
    write(label, Volume(np.full(grid.shape, 2, np.uint8), grid))
    with pytest.raises(InputError, match="label 2 is unknown"):
        prepare_case(Case("c0", folder / "images/c0.nrrd", label), REPRESENTATION)
    apart = Volume(np.ones(grid.shape, np.uint8), Grid(grid.shape, origin=(500, 0, 0)))
    empty = Volume(np.zeros(grid.shape, np.uint8), grid)
    for given, words in ((empty, "label is empty"), (apart, "give the label of this image")):
        write(label, given)
        with pytest.raises(InputError, match=words):
            prepare_case(Case("c0", folder / "images/c0.nrrd", label, True), REPRESENTATION)


@pytest.mark.parametrize(("outside", "told"), [(1, True), (9, True), (0, False)])
def test_a_label_without_background_is_pointed_out(folder, tmp_path, outside, told):
    """Perhaps its background has a value; what is ignored is none."""
    values = np.ones((24, 20, 18), np.uint8)
    values[:3] = outside
    write(tmp_path / "c0.nrrd", Volume(values, Grid(values.shape)))
    said = []
    case = Case("c0", folder / "images/c0.nrrd", tmp_path / "c0.nrrd")
    prepare_case(case, replace(REPRESENTATION, ignore=9), said.append)
    assert ["c0.nrrd: covers the whole image" in text for text in said] == [True] * told


def test_labels_on_another_grid_are_refused_or_where_allowed_resampled_with_a_notice(
    folder, tmp_path
):
    label = tmp_path / "c0.nrrd"
    values = np.zeros((12, 20, 18), np.uint8)
    values[3:5, 5:8, 5:8] = 1  # voxels of 2 mm along the first axis, faces aligned
    write(label, Volume(values, Grid(values.shape, (2.0, 1.0, 1.0), (0.5, 0.0, 0.0))))
    said = []
    case = Case("c0", folder / "images/c0.nrrd", label)
    with pytest.raises(InputError, match="is on a different grid than"):
        prepare_case(case, REPRESENTATION, said.append)
    case = prepare_case(replace(case, resample=True), REPRESENTATION, said.append)
    assert np.array_equal(case.fractions[0] > 0.5, np.repeat(values, 2, axis=0) > 0)
    assert len(said) == 1 and "c0.nrrd" in said[0] and "resampled" in said[0]


def test_labels_that_lost_their_header_are_refused_or_put_on_their_image(tmp_path):
    """The same voxels, but no geometry: resampled they would lie elsewhere."""
    grid = Grid((24, 20, 18), (1.25, 1.25, 2.0), (15.0, 12.0, -18.0))
    image, label = tmp_path / "c.nrrd", tmp_path / "c-label.nrrd"
    values = np.zeros(grid.shape, np.uint8)
    values[8:16, 6:13, 6:12] = 1
    write(image, Volume(np.random.default_rng(0).normal(size=grid.shape).astype("f4"), grid))
    write(label, Volume(values, Grid(grid.shape, axes=((-1, 0, 0), (0, -1, 0), (0, 0, 1)))))
    case = Case("c", image, label, resample=True)
    for given in (case, replace(case, resample=False)):
        with pytest.raises(InputError, match=r"holds no geometry .*label_geometry"):
            read_pair(given)
    assert np.array_equal(read_pair(replace(case, label_on_image=True))[1].array, values)
    write(label, Volume(values[:-1], Grid(values[:-1].shape)))
    with pytest.raises(InputError, match=r"23x20x18 voxels and c.nrrd 24x20x18"):
        read_pair(replace(case, label_on_image=True))


LPS, RAS = ((-1, 0, 0), (0, -1, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 0), (0, 0, 1))
TURNED = ((0, 1, 0), (0, 0, 1), (1, 0, 0))


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"spacing": (1, 1, 1), "origin": (0, 0, 0), "axes": RAS}, r"\(spacing, origin, axes\)"),
        ({"origin": (0, 0, 0)}, r"\(origin\)"),
        ({"axes": LPS}, r"\(axes\)"),
        ({"spacing": (1, 1, 1)}, r"\(spacing\)"),
        ({"origin": (0, 0, 0), "axes": RAS}, r"\(origin, axes\)"),
        ({"origin": (1, 0, 0)}, ""),
        ({"origin": (0, 0, 0), "spacing": (0.5, 2, 2)}, ""),
    ],
)
def test_labels_that_lost_a_part_of_their_header(changes, lost, tmp_path):
    """Also as nibabel writes it for want of a matrix: with the axes of RAS."""
    grid = Grid((24, 20, 18), (1.25, 1.25, 2.0), (0.5, 0.25, 1.0), TURNED)
    image, label = tmp_path / "c.nrrd", tmp_path / "c-label.nrrd"
    values = np.zeros(grid.shape, np.uint8)
    values[2:22, 2:18, 2:16] = 1
    noise = np.random.default_rng(0).normal(size=grid.shape).astype("f4")
    write(image, Volume(noise, grid))
    write(label, Volume(values, replace(grid, **changes)))
    case = Case("c", image, label, resample=True)
    if lost:
        with pytest.raises(InputError, match=f"c-label.nrrd: its header holds no geometry {lost}"):
            read_pair(case)
    else:
        assert read_pair(case)[1].grid.same_as(grid)
    write(image, Volume(noise, replace(grid, **changes)))
    write(label, Volume(values, grid))
    if "spacing" in lost:
        with pytest.raises(InputError, match=f"c.nrrd: its header holds no geometry {lost}"):
            read_pair(case)


def test_a_label_that_lies_beside_its_image_is_refused_or_said(tmp_path):
    grid = Grid((20, 20, 20), (1.0, 1.0, 1.0), (3.0, 0.0, 0.0))
    image, label = tmp_path / "c.nrrd", tmp_path / "c-label.nrrd"
    write(image, Volume(np.random.default_rng(0).normal(size=grid.shape).astype("f4"), grid))
    values = np.zeros(grid.shape, np.uint8)
    values[4:14, 5:15, 5:15] = 1
    case, said = Case("c", image, label, resample=True), []
    write(label, Volume(values, replace(grid, origin=(-4.0, 0.0, 0.0))))  # three of ten outside
    read_pair(case, said.append)
    assert "0.3 mL of it lie outside" in said[0]
    write(label, Volume(values, replace(grid, origin=(-9.0, 0.0, 0.0))))
    with pytest.raises(InputError, match=r"of 1 mL that are labeled, 0.8 mL do not lie on c.nrrd"):
        read_pair(case)


def test_labels_whose_grid_was_written_with_few_digits_are_taken_as_they_are(folder, tmp_path):
    label = tmp_path / "c0.nrrd"
    values = np.zeros((24, 20, 18), np.uint8)
    values[3:9, 5:8, 5:8] = 1
    write(label, Volume(values, Grid(values.shape, (1.001, 1.0, 1.0), (0.01, 0.0, 0.0))))
    said = []
    case = prepare_case(Case("c0", folder / "images/c0.nrrd", label), REPRESENTATION, said.append)
    assert np.array_equal(case.fractions[0] > 0.5, values > 0) and not said


def test_label_values_stand_for_classes(folder, tmp_path):
    label = tmp_path / "c0.nrrd"
    values = np.zeros((24, 20, 18), np.uint16)
    values[2:8, 5:9, 5:9], values[12:16, 5:9, 5:9], values[20:] = 700, 3, 9
    write(label, Volume(values, Grid(values.shape)))
    r = Representation((1.0,) * 3, Normalization(), classes=3, values=(3, 700), ignore=9)
    case = prepare_case(Case("c0", folder / "images/c0.nrrd", label), r)
    assert np.array_equal(case.fractions[0] == 1, values == 3)
    assert np.array_equal(case.fractions[1] == 1, values == 700)
    assert np.array_equal(case.valid[0] == 0, values == 9)


@pytest.mark.parametrize("sdf", ["truncated", "published"])
def test_a_distance_near_an_ignored_region_does_not_count(folder, tmp_path, sdf):
    """Whatever the ignored region holds, the distance target is right where it counts."""
    truth = np.zeros((24, 20, 18), bool)
    truth[6:18, 6:14, 5:12] = True
    ignored = np.zeros_like(truth)
    ignored[:, 10:] = True
    grid, scale = Grid(truth.shape), 4.0
    r = Representation((1.0,) * 3, Normalization(), scale=scale, ignore=7, sdf=sdf)
    label = tmp_path / "c0.nrrd"
    write(label, Volume(np.where(ignored, 7, truth).astype(np.uint8), grid))
    case = prepare_case(Case("c0", folder / "images/c0.nrrd", label), r)
    counts = case.distance_known[0] > 0
    assert counts.any() and not counts[ignored].any() and not counts[~ignored].all()
    assert counts[:, :10].mean() > 0.3
    if sdf == "published":  # its unit is the volume's largest distance, which nobody knows
        return
    found = np.clip(case.distance[0].astype(float) / scale, -1, 1)
    for completion in (truth, truth & ~ignored, truth | ignored):
        expected = np.clip(signed_distance(completion, grid.spacing) / scale, -1, 1)
        assert np.abs(found - expected)[counts].max() < 2e-3
    wrong = np.abs(found - np.clip(signed_distance(truth, grid.spacing) / scale, -1, 1))
    assert wrong[~counts & ~ignored].max() > 0.2, "what is left out is not right everywhere"

    settings = BatchSettings((24, 20, 18), 1, 0, 0.0, Augmentation())
    batch = make_batch(BatchSource([case], [], settings, r, 0), Step(0, 1))
    assert torch.equal(batch.distance_known[0, 0] > 0, torch.from_numpy(counts))
    assert torch.equal(batch.valid[0, 0] > 0, torch.from_numpy(~ignored))


def test_an_ignore_label_is_no_class_and_not_valid(folder, tmp_path):
    label = tmp_path / "c0.nrrd"
    grid = Grid((24, 20, 18))
    values = np.zeros(grid.shape, np.uint8)
    values[:, :10], values[5:9, 12:15, 5:9] = 255, 1
    write(label, Volume(values, grid))
    r = Representation((1.0,) * 3, Normalization(), ignore=255)
    case = prepare_case(Case("c0", folder / "images/c0.nrrd", label), r)
    assert not case.valid[0, :, :10].any() and case.valid[0, :, 10:].all()
    assert case.fractions[0, :, :10].max() == 0


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_what_exceeds_the_memory_budget_is_mapped_and_equal(folder, tmp_path):
    cohort = find_cohort(folder / "images", folder / "labels")
    kept = prepare_cases(cohort.labeled, REPRESENTATION, cache=tmp_path)
    before = open_files() if sys.platform == "linux" else 0
    mapped = prepare_cases(cohort.labeled, REPRESENTATION, cache=tmp_path, budget=0)
    assert all(isinstance(c.image, Path) and c.nbytes == 0 for c in mapped)
    settings = BatchSettings((16, 16, 16), 2, 0, 0.5, Augmentation(affine=1.0, intensity=1.0))
    for step in range(3):
        a, b = (
            make_batch(BatchSource(c, [], settings, REPRESENTATION, 1), Step(step, 9))
            for c in (kept, mapped)
        )
        assert torch.equal(a.image, b.image) and torch.equal(a.level_set, b.level_set)
    if sys.platform == "linux":  # a cohort of thousands must not hold thousands of files
        assert open_files() == before


def test_an_interrupted_preparation_is_used_again_unless_something_changed(
    folder, tmp_path, monkeypatch
):
    cohort = find_cohort(folder / "images", folder / "labels")
    prepare_cases(cohort.labeled, REPRESENTATION, cache=tmp_path, budget=0)
    made = []
    real = cases.prepare_case
    monkeypatch.setattr(cases, "prepare_case", lambda *a: made.append(a) or real(*a))
    prepare_cases(cohort.labeled, REPRESENTATION, cache=tmp_path, budget=0)
    assert not made
    other = replace(REPRESENTATION, spacing=(2.0, 2.0, 2.0))
    prepare_cases(cohort.labeled, other, cache=tmp_path, budget=0)
    assert len(made) == 3


def test_an_unturned_pose_cuts_the_voxels_themselves():
    field = np.random.default_rng(0).normal(size=(2, 9, 8, 7)).astype(np.float32)
    whole = cut([field], Pose((4.0, 3.5, 3.0), None, 1.0, "border"), (5, 4, 3), ["border"])[0]
    assert np.array_equal(whole.numpy(), field[:, 2:7, 2:6, 2:5])
    turned = cut([field], Pose((4.0, 3.5, 3.0), IDENTITY, 1.0, "border"), (5, 4, 3), ["border"])[0]
    assert torch.allclose(whole, turned, atol=1e-5)


def test_cutting_beyond_the_border_repeats_or_darkens():
    field = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3) + 5
    for matrix in (None, IDENTITY):
        pose = Pose((1.0, 1.0, 1.0), matrix, 1.0, "border")
        repeated, dark = cut([field, field], pose, (7, 3, 3), ["border", "dark"])
        assert np.allclose(repeated[0, 0], field[0, 0]) and np.allclose(
            repeated[0, 6], field[0, 2]
        )
        assert np.allclose(dark[0, 0], 5.0) and np.allclose(dark[0, 2:5], field[0], atol=1e-4)


def test_geometry_is_shared_by_image_label_and_distance(prepared):
    """The ball's intensity is its label, so all three must turn together."""
    settings = BatchSettings(
        (24, 20, 18),
        4,
        0,
        0.0,
        Augmentation(affine=1.0, rotation=30.0, shift=0.1, flips=(0.5, 0.5, 0.5)),
    )
    batch = make_batch(BatchSource(prepared[0], [], settings, REPRESENTATION, 3), Step(0, 9))
    bright = batch.image[:, 0] > batch.image.mean() + batch.image.std()
    inside = batch.labels[:, 1] > 0.5
    assert (bright == inside).float().mean() > 0.98
    assert ((batch.level_set[:, 0] < 0) == inside).float().mean() > 0.99
    assert torch.allclose(batch.labels.sum(1), torch.ones_like(batch.labels[:, 0]))


def test_what_is_mirrored_beyond_the_border_is_labeled_there_too(prepared):
    varied = Augmentation(affine=1.0, shift=0.1, surroundings=True)
    settings = BatchSettings((60, 48, 44), 8, 0, 0.0, varied)
    ball = float(prepared[0][0].fractions.astype(np.float32).sum())
    batch = make_batch(BatchSource(prepared[0], [], settings, REPRESENTATION, 3), Step(0, 9))
    inside = batch.labels[:, 1] > 0.5
    mirrored = inside.sum((1, 2, 3)) > 3 * ball
    assert mirrored.any() and not mirrored.all()
    for image, truth, distance in zip(
            batch.image[:, 0], inside, batch.level_set[:, 0], strict=True
        ):
        bright = image > 0.5 * (image[truth].mean() + image[~truth].mean())
        assert (bright & truth).sum() > 0.9 * truth.sum()
        assert (bright & ~truth).sum() < 0.3 * truth.sum()  # all around the edge
        assert ((distance < 0) == truth).float().mean() > 0.99


def test_a_magnified_distance_stays_a_distance(prepared):
    pose = Pose((11.0, 9.0, 8.0), IDENTITY / 1.25, 1.25, "border")
    distance, fraction = cut(
        [prepared[0][0].distance, prepared[0][0].fractions], pose, (24, 20, 18), ["border"] * 2
    )
    scaled = distance[0] * pose.zoom
    along = scaled[:, 9, 8]
    assert int((fraction[0, :, 9, 8] > 0.5).sum()) == pytest.approx(1.25 * 9, abs=1.1)
    end = int((along < 0).nonzero().max())
    assert float(along[end + 4] - along[end]) == pytest.approx(4.0, abs=0.2)


def test_the_papers_augmentation_always_turns_and_flips():
    rng = np.random.default_rng(0)
    paper = Augmentation(quarter_turns=True)
    drawn = [draw_flips(rng, paper, (32, 32, 16), (1, 1, 2)) for _ in range(200)]
    assert {t for t, _ in drawn} == {0, 1, 2, 3}
    assert {tuple(a) for _, a in drawn} == {(0,), (1,)}
    for patch, spacing in (((32, 24, 16), (1, 1, 2)), ((32, 32, 16), (1, 2, 1))):
        halves = [draw_flips(rng, paper, patch, spacing)[0] for _ in range(50)]
        assert set(halves) == {0, 2}
    field = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert torch.equal(turn(field, 1, [0]), field.rot90(1, (1, 2)).flip(1))


def test_coarse_axes_are_not_turned_into_fine_ones():
    rng = np.random.default_rng(0)
    for _ in range(20):
        pose = draw_pose(rng, Augmentation(affine=1.0), (64, 64, 10), (32, 32, 8), (1, 1, 10.0))
        assert np.allclose(pose.matrix[2, :2], 0) and np.allclose(pose.matrix[:2, 2], 0)


def test_patches_stay_inside_larger_volumes_without_a_shift():
    rng = np.random.default_rng(0)
    for _ in range(100):
        pose = draw_pose(rng, Augmentation(), (30, 20, 9), (16, 16, 12), (1, 1, 1))
        start = [c - (s - 1) / 2 for c, s in zip(pose.center, (16, 16, 12), strict=True)]
        assert start[0] == int(start[0]) and 0 <= start[0] <= 14 and 0 <= start[1] <= 4


def test_intensity_changes_depend_on_the_generator_alone():
    image = torch.randn(1, 12, 12, 12)
    first, again, other = (vary_intensity(image, np.random.default_rng(s), 1.0) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, image)


def test_each_pass_over_the_cases_sees_each_once():
    order = pick((5, 0), 6, 0, 18)
    assert all(sorted(order[n : n + 6]) == list(range(6)) for n in (0, 6, 12))
    assert order[:6] != order[6:12] or order[6:12] != order[12:]
    assert pick((5, 0), 6, 7, 3) == order[7:10]


def test_batches_repeat_with_the_seed_and_put_labeled_samples_first(prepared):
    settings = BatchSettings((16, 16, 16), 2, 1, 0.0, Augmentation(affine=0.5, intensity=0.5))
    steps = [Step(n, 5, 2) for n in range(5)]

    def run(seed, which=steps):
        return list(batches(BatchSource(*prepared, settings, REPRESENTATION, seed), which))

    first, again, other = run(1), run(1), run(2)
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].image, other[0].image)
    assert torch.equal(run(1, steps[3:])[0].image, first[3].image)
    assert [len(b.labels) for b in first] == [3, 3, 2, 2, 2]
    assert all(len(b.image) == 3 for b in first)
    assert not torch.equal(first[4].image, first[4].weak)


def test_a_cohort_without_unlabeled_cases_fills_the_batch_with_labeled_ones(prepared):
    source = BatchSource(prepared[0], [], BatchSettings((16, 16, 16)), REPRESENTATION, 0)
    batch = make_batch(source, Step(0, 9))
    assert len(batch.labels) == 4


def test_no_labeled_patch_is_drawn_twice(prepared):
    """Neither where the supervised start ends nor in a training that goes on with half a batch."""
    settings = BatchSettings((16, 16, 16), 2, 2, augmentation=Augmentation(affine=1.0))
    steps = [Step(n, 12, 4) for n in range(12)]
    whole = list(batches(BatchSource(*prepared, settings, REPRESENTATION, 1), steps))
    half = replace(settings, labeled=1, unlabeled=1)
    resumed = list(batches(BatchSource(*prepared, half, REPRESENTATION, 1), steps[6:]))
    for parts in (lambda b: b.image[: len(b.labels)], lambda b: b.image[len(b.labels) :]):
        before = [p for b in whole[:6] for p in parts(b)]
        for after in (whole[6:], resumed):
            patches = [*before, *(p for b in after for p in parts(b))]
            assert len({p.numpy().tobytes() for p in patches}) == len(patches)


def test_a_class_of_few_cases_is_seen_as_often_as_one_of_all(prepared):
    known = [replace(c, foreground_voxels=(*c.foreground_voxels, np.empty((0, 3), int)))
             for c in prepared[0]]  # fmt: skip
    rare = known[2].foreground_voxels[0]
    known[2] = replace(known[2], foreground_voxels=(rare, rare[:1]))
    settings = BatchSettings((8, 8, 8), foreground=1.0)
    rng = np.random.default_rng(0)

    def drawn(settings, n):
        return batching._aim(known, known[n % 3], settings, rng)

    balanced = replace(settings, balanced=True)
    found = [drawn(balanced, n) for n in range(300)]
    share = np.mean([case is known[2] and (target == rare[0]).all() for case, target in found])
    assert 0.4 < share < 0.6, "the second class, which one case shows"
    found = [drawn(settings, n) for n in range(300)]
    assert all(case is known[n % 3] for n, (case, _) in enumerate(found)), "no other case"
    empty = [replace(c, foreground_voxels=()) for c in known]
    assert batching._aim(empty, empty[0], balanced, rng) == (empty[0], None)
    assert drawn(replace(balanced, foreground=0.0), 1) == (known[1], None)


def test_thick_slices_are_never_mixed():
    settings = Augmentation(affine=1.0, shift=0.1, zoom=(0.5, 2.0))
    rng = np.random.default_rng(0)
    poses = [
        draw_pose(rng, settings, (30, 30, 9), (20, 20, 10), (1.5, 1.5, 10.0)) for _ in range(40)
    ]
    for pose in poses:
        first = pose.center[2] - (10 - 1) / 2  # the first slice of the patch in the volume
        assert first == round(first)
        assert np.array_equal(pose.matrix[2], (0, 0, 1)) and np.array_equal(
            pose.matrix[:, 2], (0, 0, 1)
        )
    assert len({pose.center[2] for pose in poses}) > 1
    assert len({pose.matrix[0, 0] for pose in poses}) == 40


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_few_slices_are_not_turned_out_of_their_plane(axis):
    """Of cubic voxels: a patch of three slices would mostly show what lies beside them."""
    settings = Augmentation(affine=1.0, rotation=30.0, shift=0.1)
    shape = [64, 64, 64]
    shape[axis] = 3
    rng = np.random.default_rng(0)
    poses = [draw_pose(rng, settings, tuple(shape), tuple(shape), (1.0,) * 3) for _ in range(20)]
    for pose in poses:
        across = np.eye(3)[axis]
        assert np.array_equal(pose.matrix[axis], across)
        assert np.array_equal(pose.matrix[:, axis], across)
        assert pose.center[axis] == round(pose.center[axis])
    assert np.std([np.linalg.det(p.matrix) for p in poses]) > 0.1, "within it they are"
    assert few_axes((64, 64, 3)) == (2,) and few_axes((3, 64, 1)) == ()
    assert few_axes((64, 64, 8)) == few_axes((24, 64, 6)) == (), "of which enough remains"
