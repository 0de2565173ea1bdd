"""What a plan is made from: grids, kinds of image and structures of the cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from samples import ball, on_grid, reordered

from ugmcl_core.data.cases import Case, Cohort
from ugmcl_core.data.volume import write
from ugmcl_core.errors import InputError
from ugmcl_core.training.planning import fingerprint

SPACING = (1.0, 2.0, 4.0)


def case(folder, name, array, labels=None, change=lambda volume: volume):
    """A case as files, its axes turned by ``change``."""
    paths = []
    for kind, content in (("image", array), ("label", labels)):
        paths.append(None if content is None else folder / f"{name}-{kind}.nrrd")
        if content is not None:
            write(paths[-1], change(on_grid(content, SPACING)))
    return Case(name, *paths)


@pytest.mark.parametrize("change", [lambda v: v, lambda v: reordered(v, (2, 0, 1), (True, 0, 0))])
def test_the_facts_of_a_case_are_those_of_its_body_axes(tmp_path, change):
    labels = np.zeros((40, 20, 12), np.uint8)
    labels[4:24, 6:16, 3:9] = 3
    labels[30, 2, 1] = 255
    image = np.where(labels == 3, 90, 10).astype(np.int16)
    found, inside = fingerprint.look(case(tmp_path, "a", image, labels, change), ignore=255)
    assert found.shape == (40, 20, 12) and found.spacing == SPACING and found.modality == ""
    (one,) = found.structures
    assert (one.value, one.pieces, one.extent) == (3, 1, (20.0, 20.0, 24.0))
    assert one.share == pytest.approx(1200 / 9600)
    assert one.center == pytest.approx((13.5, 21.0, 22.0))
    assert one.radius == pytest.approx(10.0, abs=1.0)
    assert inside.shape[0] == 1 and set(inside[0]) == {90.0}


@pytest.mark.parametrize(
    ("lowest", "kind"), [(-1000, "CT"), (-80.0, "CT"), (0, ""), (-2.5, ""), (-80.5, "")]
)
def test_ct_is_known_by_its_values(tmp_path, lowest, kind):
    image = np.linspace(lowest, 600, 4000).reshape(20, 20, 10)
    image = image if lowest % 1 else np.round(image)
    found, _ = fingerprint.look(case(tmp_path, "a", image.astype(np.float32)))
    assert found.modality == kind and found.structures == ()


def test_the_unit_of_the_values_does_not_matter(tmp_path):
    """A diffusion in m²/s is of 1e-9, and its histogram is that of one in µm²/ms."""
    image = np.random.default_rng(0).gamma(2.0, 300.0, (20, 20, 10)).astype(np.float32)
    first, second = (
        fingerprint.look(case(tmp_path, f"{unit:g}", image * np.float32(unit)))[0].histogram
        for unit in (1.0, 1e-12)
    )
    assert second == pytest.approx(first, abs=1e-4) and 0.1 < first[9] < 0.9
    constant, _ = fingerprint.look(case(tmp_path, "c", 0.0 * image))
    assert set(constant.histogram) == {0.0}


def test_twins_mirror_each_other_and_others_do_not(tmp_path):
    left = ball((40, 20, 12), (9, 10, 6), 5) | ball((40, 20, 12), (13, 10, 6), 3)
    labels = left + 2 * left[::-1].astype(np.uint8)
    labels[15:25, :3, :2] = 3
    found, _ = fingerprint.look(case(tmp_path, "a", labels.astype(np.int16), labels))
    (pair,) = found.twins
    assert (pair.first, pair.second, pair.axis) == (1, 2, 0) and pair.likeness > 0.95


def test_all_cases_make_one_fingerprint(tmp_path, monkeypatch):
    def labeled(n):
        labels = ball((20, 18, 16), (10, 9, 8), 5).astype(np.uint8) * (1 + n)
        return case(tmp_path, f"l{n}", (labels > 0) * np.int16(100 * (n + 1)), labels)

    known = tuple(labeled(n) for n in range(2))
    new = tuple(case(tmp_path, f"u{n}", np.ones((20, 18, 16), np.int16)) for n in range(4))
    found = fingerprint.take(Cohort(known, new))
    assert [c.name for c in found.cases] == ["l0", "l1", "u0", "u1", "u2", "u3"]
    assert found.values == (1, 2) and len(found.of(2)) == 1 and found.glanced == 0
    assert (found.inside.low, found.inside.high, found.inside.mean) == (100, 200, 150)
    monkeypatch.setattr(fingerprint, "_MOST_BYTES", new[0].image.stat().st_size * 2)
    in_part = fingerprint.take(Cohort(known, new))
    assert [bool(c.histogram) for c in in_part.unlabeled] == [True, False, True, False]
    assert in_part.glanced == 2
    assert [(c.shape, c.spacing) for c in in_part.cases] == [
        (c.shape, c.spacing) for c in found.cases
    ]
    with pytest.raises(InputError, match=r"l1-label\.nrrd: the label is empty"):
        fingerprint.take(Cohort(known), (1,))


def test_the_share_of_air_in_CT_makes_no_volume_another_kind(tmp_path):
    """A thin patient and a stout one: most voxels are air, or most are tissue."""
    rng = np.random.default_rng(0)

    def body(radius):
        inside = ball((40, 40, 12), (20, 20, 6), radius)
        return np.where(inside, rng.normal(40, 60, inside.shape), -1000).astype(np.int16)

    thin, stout, labels = body(14.5), body(17), ball((40, 40, 12), (20, 20, 6), 4)
    known = case(tmp_path, "thin", thin, labels.astype(np.uint8))
    cohort = Cohort((known,), (case(tmp_path, "stout", stout),))
    assert np.median(thin) == -1000 and np.median(stout) > -200
    assert fingerprint.strangers(cohort) == {}


def test_what_a_header_tells_is_enough_to_leave_a_volume_out(tmp_path, monkeypatch):
    labels = ball((20, 18, 16), (10, 9, 8), 5).astype(np.uint8)
    known = case(tmp_path, "l", labels.astype(np.int16), labels)
    new = [case(tmp_path, f"u{n}", np.ones((20, 18, 16), np.int16)) for n in range(3)]
    new.append(case(tmp_path, "long", np.ones((20, 18, 60), np.int16)))
    cut = new[1].image
    cut.write_bytes(cut.read_bytes()[:-40])
    monkeypatch.setattr(fingerprint, "_MOST_BYTES", 1)
    cohort = Cohort((known,), tuple(new))
    assert list(fingerprint.strangers(cohort)) == ["long"]
    cut.write_bytes(b"no header")
    with pytest.raises(InputError, match=r"u1-image\.nrrd: "):
        fingerprint.strangers(cohort)


def test_the_header_of_a_series_tells_its_modality(tmp_path, monkeypatch):
    labels = ball((20, 18, 16), (10, 9, 8), 5).astype(np.uint8)
    known = case(tmp_path, "l", np.where(labels, 40, -900).astype(np.int16), labels)
    series = tmp_path / "mr"
    series.mkdir()
    for k in range(16):
        plane = sitk.GetImageFromArray(np.full((1, 18, 20), 40 + k, np.int16))
        plane.SetSpacing(SPACING)
        tags = {"0008|0060": "MR", "0020|000e": "1.2.3", "0020|000d": "1.2",
                "0008|0018": f"1.2.3.{k}", "0020|0032": f"0\\0\\{SPACING[2] * k}",
                "0020|0037": "1\\0\\0\\0\\1\\0"}  # fmt: skip
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(series / f"{k:02d}.dcm"))
        writer.Execute(plane)
    first = case(tmp_path, "u", np.where(labels, 40, -900).astype(np.int16))
    size = fingerprint._bytes(series) + fingerprint._bytes(first.image)
    monkeypatch.setattr(fingerprint, "_MOST_BYTES", size - 1)
    found = fingerprint.take(Cohort((known,), (first, Case("mr", series))))
    assert found.glanced == 1 and found.unlabeled[1].shape == (20, 18, 16)
    assert found.unlabeled[1].spacing == pytest.approx(SPACING)
    why = fingerprint.all_unlike(found.unlabeled, found.labeled)
    assert why == {"mr": "it is MR, the labeled ones are CT"}


def test_labels_that_are_all_meant_to_be_empty_are_refused(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (20, 18, 16)).astype(np.int16)
    empty = case(tmp_path, "a", image, np.zeros(image.shape, np.uint8))
    with pytest.raises(InputError, match="any other shows a structure, so there is nothing to"):
        fingerprint.take(Cohort((replace(empty, may_be_empty=True),)), (1,))


def test_a_volume_that_a_structure_fills_has_a_radius(tmp_path):
    full = np.ones((6, 6, 6), np.uint8)
    found, _ = fingerprint.look(case(tmp_path, "a", full.astype(np.int16), full))
    assert 0 < found.structures[0].radius < 10


@pytest.mark.parametrize("slices", [1, 2, 12])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_structure_goes_on_where_the_image_ends(tmp_path, slices, axis):
    """A disc of a radius of 8 mm in all slices of a stack is no structure of half a slice."""
    disc = np.hypot(*(np.indices((24, 22)) - [[[12]], [[11]]])) < 8
    labels = np.moveaxis(np.repeat(disc[..., None], slices, 2), 2, axis).astype(np.uint8)
    paths = [tmp_path / "image.nrrd", tmp_path / "label.nrrd"]
    for path in paths:
        write(path, on_grid(labels, (1.0, 1.0, 1.0)))
    found, _ = fingerprint.look(Case("a", *paths))
    assert found.structures[0].radius == pytest.approx(7.5, abs=0.3)
    filled = np.ones((1, 14, 22), np.uint8)
    write(paths[0], on_grid(filled))
    write(paths[1], on_grid(filled))
    found, _ = fingerprint.look(Case("a", *paths))
    assert found.structures[0].radius == pytest.approx(7.0, abs=0.6), "half of the image"


def test_the_values_of_a_label_without_a_class_are_named(tmp_path):
    labels = np.zeros((20, 20, 12), np.uint8)
    labels[4:14, 6:16, 3:9] = 255
    wrong = case(tmp_path, "a", np.random.default_rng(0).normal(size=labels.shape), labels)
    with pytest.raises(InputError, match=r"no voxel of a class .*, only of 255; annotate it"):
        fingerprint.look(wrong, (1, 2))
