"""What a user can give that cannot be used: exit code 2, one line, and no output file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cli_support import refuse
from samples import small_case, tiny_model

from ugmcl_core.__main__ import main
from ugmcl_core.data import phantoms, volume
from ugmcl_core.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny").folder


def segment(model, image, out, *more):
    return ["segment", image, "--model", model, "--output", out, "--device", "cpu",
            "--uncertainty-passes", "1", *more]  # fmt: skip


# Images


def save(path: Path, array: np.ndarray, vector: bool = False, spacing=None) -> None:
    image = sitk.GetImageFromArray(array, isVector=vector)
    if spacing is not None:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def raw_nrrd(path: Path, sizes: str, directions: str, content: bytes) -> None:
    path.write_bytes(
        f"NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: {directions}\nencoding: raw\nendian: little\n"
        "space origin: (0,0,0)\n\n".encode()
        + content
    )


def values(shape=(12, 14, 16)) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def with_value(value: float, kind=np.float32) -> np.ndarray:
    array = values().astype(kind)
    array[3, 4, 5] = value
    return array


FULL = values().tobytes()
UNIT = "(1,0,0) (0,1,0) (0,0,1)"
IMAGES = {
    "2D": (lambda p: save(p, values((12, 14))), "2 dimensions"),
    "4D": (lambda p: save(p, values((3, 12, 14, 16))), "4 dimensions"),
    "vector": (lambda p: save(p, values((12, 14, 16, 3)), vector=True), "3 components"),
    "no bytes": (lambda p: p.write_bytes(b""), "is empty"),
    "no voxels": (lambda p: raw_nrrd(p, "0 14 16", UNIT, b""), ""),
    "constant": (lambda p: save(p, np.full((12, 14, 16), 7, np.uint8)), "constant"),
    "NaN": (lambda p: save(p, with_value(np.nan)), "NaN"),
    "infinite": (lambda p: save(p, with_value(np.inf)), "infinite"),
    "complex": (lambda p: save(p, values().astype(np.complex64)), "complex"),
    "beyond float32": (lambda p: save(p, with_value(-1e300, float)), "voxels of 1e+300"),
    "tiny spacing": (lambda p: save(p, values(), spacing=(1.0, 1.0, 1e-9)), "spacing"),
    "tiny extent": (lambda p: save(p, values(), spacing=(1e-3, 1e-3, 1e-3)), "0.016 x"),
    "huge spacing": (lambda p: save(p, values(), spacing=(1.0, 1.0, 5000.0)), "spacing"),
    "enormous extent": (lambda p: save(p, values(), spacing=(99.0, 99.0, 99.0)), "mm"),
    "zero spacing": (
        lambda p: raw_nrrd(p, "16 14 12", "(1,0,0) (0,1,0) (0,0,0)", FULL),
        "a spacing is zero; correct the file's header",
    ),
    "sheared": (lambda p: raw_nrrd(p, "16 14 12", "(1,0,0) (.3,1,0) (0,0,1)", FULL), "sheared"),
    "truncated": (lambda p: raw_nrrd(p, "16 14 12", UNIT, FULL[:100]), "truncated"),
    "text": (lambda p: p.write_text("not an image\n"), "not an NRRD file"),
    "missing": (lambda p: None, "no such file"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind, model, tmp_path, capsys):
    make, why = IMAGES[kind]
    path = tmp_path / "image.nrrd"
    make(path)
    out = tmp_path / "out"
    refuse(capsys, *segment(model, path, out), why=why, out=out)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
@pytest.mark.parametrize("kind", ["2D", "4D", "vector", "NaN", "infinite", "huge spacing"])
def test_images_of_other_formats(kind, suffix, tmp_path):
    make, why = IMAGES[kind]
    make(tmp_path / f"image{suffix}")
    with pytest.raises(InputError, match=why):
        volume.read(tmp_path / f"image{suffix}")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_truncated_files_of_every_format(suffix, tmp_path, capfd):
    path = tmp_path / f"image{suffix}"
    volume.write(path, small_case()[0])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged or truncated"):
        volume.read(path)
    assert capfd.readouterr().err == ""  # ITK prints nothing of its own


@pytest.mark.parametrize("content", ["nothing", "text"])
def test_folders_without_images(content, model, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    if content == "text":
        (folder / "notes.txt").write_text("no DICOM")
    out = tmp_path / "out"
    why = {"nothing": "empty", "text": "no DICOM series"}[content]
    refuse(capsys, *segment(model, folder, out), why=why, out=out)


def test_region_outside_the_volume(model, scan, tmp_path, capsys):
    out = tmp_path / "out"
    words = segment(model, scan, out, "--roi", "500,600,500,600,500,600")
    refuse(capsys, *words, why="outside", out=out)


def test_a_constant_region(model, tmp_path, capsys):
    array = np.zeros((30, 30, 30), np.float32)
    array[:10] = values((10, 30, 30))
    path = tmp_path / "image.nrrd"
    volume.write(path, volume.Volume(array, volume.Grid((30, 30, 30))))
    out = tmp_path / "out"
    words = segment(model, path, out, "--roi", "15,28,0,28,0,28")
    refuse(capsys, *words, why="constant", out=out)


@pytest.mark.parametrize(("spacing", "why"), [(1.0, "less than one voxel"), (3.0, "constant")])
def test_a_region_of_one_voxel(spacing, why, model, tmp_path, capsys):
    array = values((12, 12, 12))
    axes = ((-1, 0, 0), (0, -1, 0), (0, 0, 1))
    grid = volume.Grid(array.shape, (spacing,) * 3, axes=axes)
    volume.write(tmp_path / "image.nrrd", volume.Volume(array, grid))
    corner = volume.Grid((1, 1, 1), (spacing,) * 3, axes=axes)
    volume.write(tmp_path / "voxel.nrrd", volume.Volume(array[:1, :1, :1], corner))
    out = tmp_path / "out"
    roi = segment(model, tmp_path / "image.nrrd", out, "--roi", "-.1,.1,-.1,.1,-.1,.1")
    refuse(capsys, *roi, why=why, out=out)
    refuse(capsys, *segment(model, tmp_path / "voxel.nrrd", out), why=why, out=out)


# Models


# What is changed in the card, and a word of the message.
CARDS = {
    "another network": ({"network": {"filters": 3}}, "do not fit"),
    "unknown network setting": ({"network": {"magic": 1}}, "card is wrong"),
    "strides that are none": ({"network": {"strides": "2222"}}, "card is wrong"),
    "strides of a word": ({"network": {"strides": [["a"] * 3] * 4}}, "card is wrong"),
    "no filters": ({"network": {"filters": 0}}, "card is wrong"),
    "half a filter": ({"network": {"filters": 2.5}}, "do not fit"),
    "too much dropout": ({"network": {"dropout": 7}}, "do not fit"),
    "more classes in the network": ({"network": {"classes": 3}}, "names 1 without it"),
    "more channels in the network": ({"network": {"channels": 2}}, "2 channels"),
    "more channels in the card": ({"channels": ["T1", "T2"]}, "names 2"),
    "a patch beside the strides": ({"patch": [47, 32, 32]}, "not a multiple"),
    "unknown normalization": ({"normalization": {"kind": "magic"}}, "unknown normalization"),
    "limits that are words": ({"normalization": {"low": "1"}}, "not a number"),
    "limits that are not there": ({"normalization": {"high": None}}, "not a number"),
    "limits in disorder": ({"normalization": {"low": 99.5}}, "unknown normalization"),
    "an unknown limit": ({"normalization": {"middle": 3}}, "card is wrong"),
}


def damage(model: Path, folder: Path, kind: str) -> Path:
    shutil.copytree(model, folder)
    weights, card = folder / "weights.safetensors", folder / "model.json"
    if kind == "altered weights":
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif kind == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "no weights":
        weights.unlink()
    elif kind == "no card":
        card.unlink()
    elif kind == "future format":
        card.write_text(card.read_text().replace('"format": 1', '"format": 99'))
    elif kind in CARDS:
        content = json.loads(card.read_text())
        for key, value in CARDS[kind][0].items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
        card.write_text(json.dumps(content))
    elif kind == "pickle in its place":
        trap = pickle.dumps({"state": 1})
        weights.write_bytes(trap)
        content = json.loads(card.read_text())
        content["sha256"] = hashlib.sha256(trap).hexdigest()
        card.write_text(json.dumps(content))
    elif kind == "card of several lines of nonsense":
        card.write_text("{\n\n nonsense\n")
    return folder


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("altered weights", "SHA-256"),
        ("truncated weights", "SHA-256"),
        ("no weights", "missing"),
        ("no card", "no model.json"),
        ("future format", "format version 99"),
        *((kind, why) for kind, (_, why) in CARDS.items()),
        ("pickle in its place", "cannot be read"),
        ("card of several lines of nonsense", "not valid JSON"),
    ],
)
def test_model_folders(kind, why, model, scan, tmp_path, capsys):
    folder = damage(model, tmp_path / "model", kind)
    out = tmp_path / "out"
    refuse(capsys, *segment(folder, scan, out), why=why, out=out)


@pytest.mark.parametrize("kind", ["another network", "too much dropout", "an unknown limit"])
def test_training_from_a_model_with_a_wrong_card(kind, model, tmp_path, capsys):
    folder = damage(model, tmp_path / "model", kind)
    phantoms.write_cohort(tmp_path, 2, shape=(24, 20, 16), spacing=(4.0, 4.0, 3.5))
    out = tmp_path / "run"
    words = ["train", "--images", tmp_path / "images", "--labels", tmp_path / "labels", "--base",
             folder, "--output", out, "--iterations", "1", "--device", "cpu"]  # fmt: skip
    assert main([str(w) for w in words]) == 2
    told = capsys.readouterr().err
    assert "ugmcl: unexpected" not in told and "Traceback" not in told
    assert len([x for x in told.splitlines() if x.startswith("ugmcl: ")]) == 1
    assert not out.exists()


@pytest.mark.parametrize("name", ["best.pth", "best.pt", "best.ckpt", "pytorch_model.bin"])
def test_a_pickle_is_no_model(name, scan, tmp_path, capsys):
    torch.save({"w": torch.zeros(1)}, tmp_path / name)
    out = tmp_path / "out"
    refuse(capsys, *segment(tmp_path / name, scan, out), why="pickle", out=out)


@pytest.mark.parametrize("name", ["liver-ct", "/nowhere/model"])
def test_an_unknown_model(name, scan, tmp_path, capsys):
    out = tmp_path / "out"
    refuse(capsys, *segment(name, scan, out), why=name, out=out)


def test_a_folder_that_is_no_model(scan, tmp_path, capsys):
    out = tmp_path / "out"
    refuse(capsys, *segment(tmp_path, scan, out), why="no model.json", out=out)


# Devices


@pytest.mark.parametrize("device", ["abacus", "cuda:x", "cpu:1", "", "cuda:99"])
def test_unknown_devices(device, model, scan, tmp_path, capsys):
    out = tmp_path / "out"
    words = [*segment(model, scan, out), "--device", device]
    refuse(capsys, *words, why=device, out=out)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_asked_for_and_absent(model, scan, tmp_path, capsys):
    out = tmp_path / "out"
    words = [*segment(model, scan, out), "--device", "cuda"]
    refuse(capsys, *words, why="not available", out=out)


# Places


def test_the_output_folder_is_a_file(model, scan, tmp_path, capsys):
    out = tmp_path / "out"
    out.write_text("precious")
    refuse(capsys, *segment(model, scan, out), why="cannot be written to", out=out)
    assert out.read_text() == "precious"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_no_permission(model, scan, capsys):
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    place.chmod(0o755)
    shutil.copytree(model, place / "model")
    shutil.copy(scan, place / "scan.nrrd")
    out = place / "out"
    out.mkdir(mode=0o555)
    root = os.geteuid() == 0  # who may write anywhere, unless it gives up its rights
    try:
        if root:
            os.seteuid(65534)
        words = segment(place / "model", place / "scan.nrrd", out)
        refuse(capsys, *words, why="cannot be written to", out=out)
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(place)


def test_a_file_size_limit_while_writing(model, tmp_path, capsys):
    """What a full disk looks like: writing fails in the middle of a file."""
    resource = pytest.importorskip("resource")
    scan = tmp_path / "scan.nrrd"
    volume.write(scan, phantoms.phantom(0, (88, 72, 44))[0])
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        refuse(capsys, *segment(model, scan, out), why="cannot", out=out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert main([str(w) for w in segment(model, scan, out)]) == 0


def test_a_full_disk(model, tmp_path, capsys):
    """The same with a real file system that is too small, where one may be mounted."""
    scan = tmp_path / "scan.nrrd"
    volume.write(scan, phantoms.phantom(0, (88, 72, 44))[0])
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        out = small / "out"
        refuse(capsys, *segment(model, scan, out), why="cannot be written", out=out)
    finally:
        subprocess.run(["umount", str(small)], check=True)
