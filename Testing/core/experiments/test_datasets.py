"""Data sets of every layout on generated files: found, split, converted; wrong ones named."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from experiment_samples import TINY, write_la
from samples import on_grid

from ugmcl_core.__main__ import main
from ugmcl_core.data import phantoms, volume
from ugmcl_core.data.cases import prepare_case
from ugmcl_core.data.preprocessing import Normalization
from ugmcl_core.data.volume import Grid, Volume
from ugmcl_core.errors import InputError
from ugmcl_core.experiments import datasets
from ugmcl_core.experiments.datasets import Lists
from ugmcl_core.experiments.planning import data_for, profile_for
from ugmcl_core.training import profiles

SHAPE = (20, 18, 12)


@pytest.fixture(scope="module")
def la(tmp_path_factory):
    folder = tmp_path_factory.mktemp("la")
    write_la(folder)
    return folder


@pytest.fixture(scope="module")
def h5(tmp_path_factory):
    """Ten training and two test cases as UA-MT distributes them."""
    folder = tmp_path_factory.mktemp("h5")
    names = [f"CASE{n:02d}" for n in range(12)]
    for n, name in enumerate(names):
        image, label = phantoms.phantom(n, SHAPE, (5.0, 5.0, 5.0))
        place = folder / "2018LA_Seg_Training Set" / name
        place.mkdir(parents=True)
        with h5py.File(place / "mri_norm2.h5", "w") as file:
            normal = (image.array - image.array.mean()) / image.array.std()
            file.create_dataset("image", data=normal.astype(np.float32), compression="gzip")
            file.create_dataset("label", data=label.array, compression="gzip")
    (folder / "train.list").write_text("\n".join(names[:10]) + "\n", encoding="utf-8")
    (folder / "test.list").write_text("\n".join(names[10:]) + "\n", encoding="utf-8")
    return folder


def write_brats(folder: Path, count: int = 12) -> list[str]:
    """HGG and LGG cases with a skull-stripped brain (0 around it) and tumor labels 1, 2, 4."""
    names = []
    for n in range(count):
        grade = "HGG" if n % 3 else "LGG"
        name = f"BraTS19_X_{n:03d}_1"
        place = folder / grade / name
        place.mkdir(parents=True)
        random = np.random.default_rng(n)
        image = np.zeros((24, 22, 16), np.float32)
        image[6:18, 5:17, 4:12] = random.uniform(50, 300, (12, 12, 8))
        seg = np.zeros(image.shape, np.uint8)
        seg[9:13, 8:12, 6:10], seg[10:12, 9:11, 7:9], seg[10, 9, 7] = 2, 1, 4
        image[seg > 0] += 200
        grid = Grid(image.shape, (1.0, 1.0, 1.0), axes=((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
        volume.write(place / f"{name}_flair.nii.gz", Volume(image, grid))
        volume.write(place / f"{name}_seg.nii.gz", Volume(seg, grid))
        names.append(name)
    return names


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brats")
    write_brats(folder)
    return folder


def test_layouts_are_told_apart(la, h5, brats, tmp_path):
    assert [datasets.detect(f) for f in (la, h5, brats)] == ["la", "la-h5", "brats"]
    for part in ("images", "labels"):
        shutil.copytree(la / part, tmp_path / "plain" / part)
    assert datasets.detect(tmp_path / "plain") == "folder"
    assert datasets.detect(h5 / "2018LA_Seg_Training Set") == "la-h5"


def test_la_order_and_parts(la):
    found = datasets.find(la)
    assert found.training == tuple(f"phantom-{n:03d}" for n in range(5)) and found.standard == 2
    assert found.dev == ("phantom-005", "phantom-006")
    assert found.report == ("phantom-007", "phantom-008")
    assert found.split(1.0) == (found.training[:2], found.training[2:])
    assert found.split(1.5)[0] == found.training[:3]  # the next in the lists' order
    assert found.split(None) == (found.training, ())
    cohort = found.cohort(*found.split(1.0), Path("unused"))
    assert [c.name for c in cohort.labeled] == ["phantom-000", "phantom-001"]
    assert all(c.label is not None for c in cohort.labeled)
    assert all(c.label is None for c in cohort.unlabeled), "unlabeled cases have no labels"


def test_the_former_spelling_of_list_files_is_read(la, tmp_path):
    folder = tmp_path / "la"
    shutil.copytree(la, folder)
    for path in folder.glob("*labeled*.txt"):
        path.rename(path.with_name(path.name.replace("labeled", "labelled")))
    assert list(folder.glob("labelled-*.txt"))
    found, wanted = datasets.find(folder), datasets.find(la)
    assert (found.layout, found.training, found.standard) == (
        "la", wanted.training, wanted.standard
    )  # fmt: skip


def test_lists_replace_the_layouts_own(la):
    lists = Lists(("phantom-004", "phantom-000"), ("phantom-001",), ("phantom-002",))
    found = datasets.find(la, lists=lists)
    assert found.training[:2] == lists.labeled and found.standard == 2
    assert (found.dev, found.report) == (lists.dev, lists.report)
    assert set(found.training) == set(found.cases) - {*lists.dev, *lists.report}
    assert set(found.split(1.0)[1]) == set(found.training) - set(lists.labeled)


def test_a_plain_folder(la, tmp_path):
    for part in ("images", "labels"):
        shutil.copytree(la / part, tmp_path / part)
    (tmp_path / "labels" / "phantom-000.nrrd").unlink()
    found = datasets.find(tmp_path, lists=Lists(dev=("phantom-003",)))
    assert found.layout == "folder" and found.standard == 7
    labeled, unlabeled = found.split(1.0)
    assert unlabeled == ("phantom-000",) and "phantom-003" not in labeled
    assert found.amount(None) == 7


def test_h5_parts_and_files(h5, tmp_path):
    found = datasets.find(h5)
    assert found.layout == "la-h5" and found.standard == 2  # 20 % of 10, as 16 of 80
    assert found.training == tuple(f"CASE{n:02d}" for n in range(10))
    assert found.report == ("CASE10", "CASE11") and found.dev == ()
    case = found.usable(["CASE03"], tmp_path)["CASE03"]
    image, label = volume.read(case.image), volume.read_labels(case.label)
    with h5py.File(found.cases["CASE03"].image) as file:
        np.testing.assert_array_equal(image.array, file["image"][:])
        np.testing.assert_array_equal(label.array, file["label"][:])
    assert image.grid.spacing == pytest.approx((0.625,) * 3)
    before = case.image.stat().st_mtime_ns
    found.usable(["CASE03"], tmp_path)
    assert case.image.stat().st_mtime_ns == before, "converted twice"


def test_h5_images_keep_their_normalization_in_the_paper_profile(h5, tmp_path):
    found = datasets.find(h5)
    case = found.usable(["CASE00"], tmp_path)["CASE00"]
    profile = profile_for(found, "paper", None)
    assert profile.representation.normalization == Normalization("none")
    assert profile_for(found, "compact", None).representation.normalization.kind == "robust-z"
    prepared = prepare_case(case, profile.representation)
    stored = volume.read(case.image).array[::-1, ::-1]  # LPS to the canonical RAS
    np.testing.assert_allclose(np.asarray(prepared.image[0], np.float32), stored, atol=2e-3)


def test_crops_are_normalized_by_their_whole_scans_in_the_paper_profile(la, tmp_path):
    folder = tmp_path / "la"
    shutil.copytree(la, folder)
    whole = {p.stem: {"mean": 10.0 + n, "std": 2.0 + n}
             for n, p in enumerate(sorted((folder / "images").iterdir()))}  # fmt: skip
    (folder / "intensity.json").write_text(json.dumps(whole), encoding="utf-8")
    found = datasets.find(folder)
    name = found.training[1]
    stored = volume.read(found.cases[name].image).array
    paper = profile_for(found, "paper", None)
    assert paper.representation.normalization.kind == "none"
    case = data_for(found, paper).usable([name], tmp_path / "cases")[name]
    expected = (stored - whole[name]["mean"]) / whole[name]["std"]
    np.testing.assert_allclose(volume.read(case.image).array, expected, rtol=1e-6)
    assert case.label == found.cases[name].label
    compact = profile_for(found, "compact", None)
    assert compact.representation.normalization.kind == "robust-z"
    assert data_for(found, compact).usable([name], tmp_path / "cases")[name] == found.cases[name]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.pop("phantom-003"), "no mean and std of phantom-003"),
        (lambda d: d["phantom-003"].update(std=0.0), "phantom-003 cannot be used"),
        (lambda d: d["phantom-003"].update(mean="high"), "no mean and std of phantom-003"),
    ],
)
def test_intensities_that_cannot_be_used_are_named(change, told, la, tmp_path):
    folder = tmp_path / "la"
    shutil.copytree(la, folder)
    whole = {p.stem: {"mean": 10.0, "std": 2.0} for p in (folder / "images").iterdir()}
    change(whole)
    (folder / "intensity.json").write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(InputError, match=told):
        datasets.find(folder)


def test_brats_split_by_seed(brats, tmp_path):
    found = datasets.find(brats)
    assert (len(found.training), len(found.dev), len(found.report)) == (9, 1, 2)
    assert found.standard == 1
    assert sorted({*found.training, *found.dev, *found.report}) == sorted(found.cases)
    assert datasets.find(brats).training == found.training
    assert datasets.find(brats, split_seed=5).training != found.training
    datasets.write_lists(found, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "dev-1.txt",
        "report-2.txt",
        "train-9.txt",
    ]
    listed = (tmp_path / "train-9.txt").read_text(encoding="utf-8").split()
    assert tuple(listed) == found.training


def test_brats_2019_has_250_25_60(tmp_path):
    """335 cases, as the challenge's training data; the files are not read for that."""
    for n in range(335):
        place = tmp_path / ("HGG" if n < 259 else "LGG") / f"B{n:03d}"
        place.mkdir(parents=True)
        for kind in ("flair", "seg"):
            (place / f"B{n:03d}_{kind}.nii.gz").touch()
    found = datasets.find(tmp_path)
    assert (len(found.training), len(found.dev), len(found.report)) == (250, 25, 60)
    assert [found.amount(s) for s in (1.0, 2.0, None)] == [25, 50, 250]


def test_brats_is_whole_tumor_cut_to_the_brain(brats, tmp_path):
    found = datasets.find(brats)
    name = found.training[0]
    case = found.usable([name], tmp_path)[name]
    image, label = volume.read(case.image), volume.read_labels(case.label)
    whole = volume.read(found.cases[name].image)
    assert image.array.shape == (20, 20, 16)  # the brain's 12x12x8 and 4 voxels around
    assert image.array.sum() == pytest.approx(whole.array.sum(), rel=1e-6)
    assert set(np.unique(label.array)) == {0, 1} and label.array.sum() == 4 * 4 * 4
    inside = np.array([4, 4, 4, 1])  # the brain's first voxel: the same place in the world
    at = whole.grid.affine @ np.array([6, 5, 4, 1])
    np.testing.assert_allclose(image.grid.affine @ inside, at, atol=1e-5)
    representation = profile_for(found, "paper", None).representation
    assert representation.spacing == (1.0, 1.0, 1.0)
    prepared = np.asarray(prepare_case(case, representation).image, np.float32)
    brain = prepared[prepared != 0]
    assert brain.mean() == pytest.approx(0, abs=2e-3)
    assert brain.std() == pytest.approx(1, abs=2e-3)
    assert brain.size == 12 * 12 * 8


def test_z_score_of_what_is_not_zero():
    array = np.array([0.0, 1.0, 3.0, 0.0], np.float32)
    np.testing.assert_allclose(Normalization("z-score-nonzero")(array), [0, -1, 1, 0])
    stored = Normalization("none")(array)
    np.testing.assert_array_equal(stored, array)
    with pytest.raises(InputError, match="constant"):
        Normalization("z-score-nonzero")(np.zeros(8, np.float32))


@pytest.mark.parametrize(
    ("data", "name", "scored"), [("h5", "table1", "report"), ("brats", "table4", "dev")]
)
def test_an_experiment_of_each_layout(data, name, scored, request, tmp_path, monkeypatch):
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)
    folder = request.getfixturevalue(data)
    words = ["experiment", name, "--data", folder, "--output", tmp_path, "--profile", "tiny",
             "--iterations", "2", "--device", "cpu", "--only",
             "dual-task" if data == "h5" else "supervised", "--score", scored]  # fmt: skip
    assert main([str(w) for w in words]) == 0
    (table,) = (tmp_path / "rendered").glob("*.md")
    text = table.read_text(encoding="utf-8")
    assert "## Results" in text and "| 1 |" in text
    assert (tmp_path / "cases" / "images").is_dir()
    lists = tmp_path / "brats-split-2022"
    assert lists.is_dir() == (data == "brats")


def broken(case: str, la: Path, h5: Path, brats: Path, place: Path) -> dict:
    """A wrong data set; the arguments of `layouts.find`."""
    if case == "empty":
        return {"folder": place}
    if case == "missing":
        return {"folder": place / "nowhere"}
    if case == "la without lists":
        (place / "images").mkdir()
        (place / "labels").mkdir()
        return {"folder": place, "layout": "la"}
    if case == "no images":
        (place / "images").mkdir()
        (place / "labels").mkdir()
        return {"folder": place}
    if case == "h5 without list":
        shutil.copytree(h5 / "2018LA_Seg_Training Set", place / "x" / "set")
        return {"folder": place / "x" / "set"}
    if case == "brats without seg":
        write_brats(place, 3)
        next(place.glob("*/*/*_seg.nii.gz")).unlink()
        return {"folder": place}
    if case == "la as brats":
        return {"folder": la, "layout": "brats"}
    if case == "brats as la":
        return {"folder": brats, "layout": "folder"}
    if case == "unknown":
        return {"folder": la, "layout": "acdc"}
    if case == "two roles":
        return {"folder": la, "lists": Lists(dev=("phantom-000",))}
    if case == "two lists":
        shutil.copytree(la, place / "la")
        (place / "la" / "dev-9.txt").write_text("phantom-002\n", encoding="utf-8")
        return {"folder": place / "la"}
    assert case == "name"
    return {"folder": la, "lists": Lists(report=("phantom-999",))}


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("empty", "no known layout"),
        ("missing", "no such folder"),
        ("la without lists", "labeled-*.txt"),
        ("no images", "no images here"),
        ("h5 without list", "train.list"),
        ("brats without seg", "_seg.nii.gz is missing"),
        ("la as brats", "needs HGG/CASE or LGG/CASE"),
        ("brats as la", "needs the folder images/"),
        ("unknown", "unknown layout 'acdc'"),
        ("two roles", "phantom-000 is both a training and a development case"),
        ("two lists", "dev-2.txt and dev-9.txt are both there"),
        ("name", "no report case phantom-999"),
    ],
)
def test_wrong_layouts_are_named_in_one_line(case, told, la, h5, brats, tmp_path):
    with pytest.raises(InputError) as error:
        datasets.find(**broken(case, la, h5, brats, tmp_path))
    assert told in str(error.value) and len(str(error.value).splitlines()) == 1


def test_wrong_h5_files_are_named_in_one_line(tmp_path, monkeypatch):
    place = tmp_path / "A"
    place.mkdir()
    path = place / "mri_norm2.h5"
    (tmp_path / "train.list").write_text("A\n", encoding="utf-8")

    def convert() -> str:
        with pytest.raises(InputError) as error:
            datasets.find(tmp_path).usable(["A"], tmp_path / "out")
        (line,) = str(error.value).splitlines()
        return line

    path.write_bytes(b"nothing")
    assert "not a readable HDF5 file" in convert()
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((4, 4, 4), np.float32)
    assert "has no data set 'label'" in convert()
    with h5py.File(path, "a") as file:
        file["label"] = np.zeros((4, 4, 5), np.uint8)
    assert "not one 3D grid" in convert()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "h5py is needed" in convert() and "pip install h5py" in convert()


def test_an_empty_brats_image_is_named(tmp_path):
    (name,) = write_brats(tmp_path, 1)
    empty = on_grid(np.zeros((6, 6, 6), np.float32))
    (flair,) = tmp_path.glob("*/*/*_flair.nii.gz")
    (seg,) = tmp_path.glob("*/*/*_seg.nii.gz")
    volume.write(flair, empty)
    volume.write(seg, Volume(empty.array.astype(np.uint8), empty.grid))
    case = datasets.Case(name, flair, seg)
    with pytest.raises(InputError, match="the image is empty"):
        datasets.from_brats(case, tmp_path / "out")


def test_brats_with_all_four_sequences(tmp_path):
    write_brats(tmp_path / "data", 6)
    for path in sorted((tmp_path / "data").glob("*/*/*_flair.nii.gz")):
        flair = volume.read(path)
        for number, kind in enumerate(("t1", "t1ce", "t2"), 1):
            other = Volume(flair.array * number, flair.grid)
            volume.write(path.with_name(path.name.replace("flair", kind)), other)
    assert datasets.find(tmp_path / "data").layout == "brats", "FLAIR alone unless it is asked for"
    found = datasets.find(tmp_path / "data", "brats-4")
    assert found.channels == ("flair", "t1", "t1ce", "t2")
    alone = datasets.find(tmp_path / "data", "brats")
    assert (found.training, found.report) == (alone.training, alone.report)
    cohort = found.cohort(found.training[:1], found.training[1:2], tmp_path / "cases")
    assert cohort.channels == found.channels
    (case,) = cohort.labeled
    images = volume.read_images(case.images, 4)
    (single,) = alone.cohort(found.training[:1], (), tmp_path / "cases").labeled
    assert np.array_equal(images[0].array, volume.read(single.image).array)
    assert [float(v.array.sum()) for v in images[1:]] == pytest.approx(
        [float(images[0].array.sum()) * n for n in (1, 2, 3)], rel=1e-5
    )
    next((tmp_path / "data").glob("*/*/*_t2.nii.gz")).unlink()
    with pytest.raises(InputError, match=r"_t2.nii.gz is missing"):
        datasets.find(tmp_path / "data", "brats-4")


def test_a_folder_of_several_channels_has_them_all(tmp_path):
    grid = Grid((6, 5, 4), (1.0, 1.0, 1.0))
    for place in ("images/a_0000", "images/a_0001", "labels/a"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        volume.write(tmp_path / f"{place}.nrrd", Volume(np.ones((6, 5, 4), np.uint8), grid))
    found = datasets.find(tmp_path)
    assert found.channels == ("0000", "0001") and len(found.cases["a"].images) == 2
    assert found.cohort(("a",), (), tmp_path).channels == found.channels
