"""2,000 corrupted image files of all formats: none crashes the reader, stops it, or is read with
another geometry than the one that its header states, by a second reader."""

from __future__ import annotations

import gzip
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from multiframe_samples import enhanced

from ugmcl_core.data import guarded
from ugmcl_core.data.volume import Volume
from ugmcl_core.errors import InputError

COUNT = 2000
SHAPE, SPACING, ORIGIN = (9, 8, 7), (0.625, 0.75, 1.25), (-3.5, 4.25, 10.0)
PLANES = np.random.default_rng(0).integers(0, 1000, SHAPE[::-1]).astype(np.int16)
TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TOLERANCE = 2e-3  # mm, of corners: headers have few digits


def image() -> sitk.Image:
    made = sitk.GetImageFromArray(PLANES)
    made.SetSpacing(SPACING)
    made.SetOrigin(ORIGIN)
    made.SetDirection(TURNED)
    return made


def affine_of(spacing, origin, columns) -> np.ndarray:
    """A 4x4 matrix in LPS turned to RAS, as `Grid.affine` is."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(columns, float) * np.asarray(spacing, float)
    matrix[:3, 3] = origin
    return RAS @ matrix


def stated_nifti(path: Path) -> list[np.ndarray]:
    header = nibabel.load(path).header
    both = []
    if header["sform_code"] > 0:
        both.append(header.get_sform())
    if header["qform_code"] > 0:
        both.append(header.get_qform())
    return both


def fields_of(path: Path, sign: str) -> dict[str, str]:
    text = path.read_bytes().split(b"\n\n")[0].decode("latin-1")
    pairs = (line.split(sign, 1) for line in text.splitlines() if sign in line)
    return {key.strip().replace(" ", "").lower(): value.strip() for key, value in pairs}


def stated_nrrd(path: Path) -> list[np.ndarray]:
    fields = fields_of(path, ":")
    words = [re.sub(r"[()]", "", w) for w in fields["spacedirections"].split()]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[float(n) for n in w.split(",")] for w in words]).T
    if "spaceorigin" in fields:
        matrix[:3, 3] = [float(n) for n in fields["spaceorigin"].strip("()").split(",")]
    space = fields.get("space", "").lower()
    flip = {"left-posterior-superior": RAS, "lps": RAS, "right-anterior-superior": np.eye(4),
            "ras": np.eye(4), "left-anterior-superior": np.diag([-1.0, 1, 1, 1]),
            "las": np.diag([-1.0, 1, 1, 1])}.get(space, RAS)  # fmt: skip
    return [flip @ matrix]


def stated_metaio(path: Path) -> list[np.ndarray]:
    fields = fields_of(path, "=")

    def numbers(*names: str) -> list[float]:
        name = next(n for n in names if n in fields)
        return [float(word) for word in fields[name].split()]

    columns = np.array(numbers("transformmatrix", "orientation", "rotation")).reshape(3, 3).T
    origin = numbers("offset", "position", "origin")
    return [affine_of(numbers("elementspacing", "elementsize"), origin, columns)]


def stated_dicom(folder: Path) -> list[np.ndarray]:
    slices = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(folder.iterdir())]
    rows, columns = (np.array(slices[0].ImageOrientationPatient, float)[n : n + 3] for n in (0, 3))
    normal = np.cross(rows, columns)
    places = sorted((np.array(s.ImagePositionPatient, float) for s in slices), key=normal.dot)
    step = float(normal @ (places[-1] - places[0])) / (len(places) - 1)
    along, across = map(float, slices[0].PixelSpacing)
    return [affine_of((across, along, step), places[0], np.column_stack([rows, columns, normal]))]


def stated_multiframe(path: Path) -> list[np.ndarray]:
    data = pydicom.dcmread(path, stop_before_pixels=True)
    shared = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    frames = data.PerFrameFunctionalGroupsSequence
    cosines = np.array(frames[0].PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows, columns = cosines[:3], cosines[3:]
    normal = np.cross(rows, columns)
    positions = (np.array(f.PlanePositionSequence[0].ImagePositionPatient, float) for f in frames)
    places = sorted(positions, key=normal.dot)
    step = float(normal @ (places[-1] - places[0])) / (len(places) - 1)
    along, across = map(float, shared.PixelSpacing)
    return [affine_of((across, along, step), places[0], np.column_stack([rows, columns, normal]))]


def multiframe(folder: Path) -> Path:
    return enhanced(folder / "scan.dcm", range(11, -1, -1))


def one_file(suffix: str, compress: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        sitk.WriteImage(image(), str(folder / f"scan{suffix}"), useCompression=compress)
        return folder / f"scan{suffix}"

    return write


def series(folder: Path) -> Path:
    made, writer = image(), sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    place = folder / "series"
    place.mkdir()
    for k in range(SHAPE[2]):
        part = made[:, :, k]
        position = made.TransformIndexToPhysicalPoint((0, 0, k))
        for key, value in {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4", "0008|0060": "MR", "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4", "0008|0018": f"1.2.3.4.{k + 1}", "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{v:g}" for v in position),
            "0020|0037": "0\\1\\0\\-1\\0\\0",
        }.items():  # fmt: skip
            part.SetMetaData(key, value)
        writer.SetFileName(str(place / f"s{k:02d}.dcm"))
        writer.Execute(part)
    return place


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], list[np.ndarray]]]] = {
    "nii": (one_file(".nii", False), stated_nifti),
    "nii.gz": (one_file(".nii.gz", True), stated_nifti),
    "nrrd": (one_file(".nrrd", False), stated_nrrd),
    "nrrd gzip": (one_file(".nrrd", True), stated_nrrd),
    "nhdr": (one_file(".nhdr", False), stated_nrrd),
    "mha": (one_file(".mha", False), stated_metaio),
    "mha zlib": (one_file(".mha", True), stated_metaio),
    "mhd": (one_file(".mhd", False), stated_metaio),
    "dicom": (series, stated_dicom),
    "multi-frame dicom": (multiframe, stated_multiframe),
}


def victim(path: Path, rng: random.Random) -> Path:
    """The file to corrupt: of a series, one of its slices."""
    return rng.choice(sorted(path.iterdir())) if path.is_dir() else path


def corrupt(content: bytes, rng: random.Random) -> bytes:
    """One to four corruptions, most of them in the header."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        end = len(data) if rng.random() < 0.25 else min(len(data), 700)
        place = rng.randrange(end)
        what = rng.randrange(8)
        if what == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[place] = rng.randrange(256)
        elif what == 2:
            del data[place:]
        elif what == 3:
            del data[place : place + rng.randint(1, 40)]
        elif what == 4:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
        elif what == 5:
            data[place : place + 8] = bytes(8) if rng.random() < 0.5 else b"\xff" * 8
        elif what == 6:
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(data[:700])))
            if numbers:
                start, stop = rng.choice(numbers).span()
                odd = (b"-1", b"0", b"nan", b"inf", b"99999999999999999999", b"1e400", b"", b"x")
                data[start:stop] = rng.choice(odd)
        else:
            other = rng.randrange(len(data))
            data[place : place + 16] = data[other : other + 16]
    return bytes(data)


def spoil(path: Path, rng: random.Random) -> None:
    """Corrupt a file; that inside of a compressed one half of the time."""
    content = path.read_bytes()
    if path.name.endswith(".gz") and rng.random() < 0.5:
        path.write_bytes(gzip.compress(corrupt(gzip.decompress(content), rng)))
    else:
        path.write_bytes(corrupt(content, rng))


def same(found: Volume, affine: np.ndarray) -> bool:
    if not np.isfinite(affine).all():
        return False
    corners = np.array(
        [[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float
    ) * [*found.array.shape, 1]
    gap = np.abs((found.grid.affine - affine) @ corners.T).max()
    return bool(gap <= TOLERANCE * max(1.0, np.abs(affine).max()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_corrupted_file_crashes_stops_or_deceives_the_reader(tmp_path, record_property):
    rng, told, slowest = random.Random(15), Counter(), 0.0
    wrong = []
    originals = {}
    for kind, (write, stated) in KINDS.items():
        place = tmp_path / "whole" / kind.replace(" ", "-")
        place.mkdir(parents=True)
        originals[kind] = write(place)
        found = guarded.read(originals[kind])
        assert all(same(found, a) for a in stated(originals[kind])), f"the second reader of {kind}"
    for number in range(COUNT):
        kind = list(KINDS)[number % len(KINDS)]
        place = tmp_path / "spoiled"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(originals[kind].parent, place)
        path = place / originals[kind].name
        spoil(victim(path, rng), rng)
        began = time.monotonic()
        try:
            found = guarded.read(path)
        except InputError as error:
            text = str(error)
            kind_of_end = "refused"
            if "crashed the reader" in text or "took longer" in text:
                kind_of_end = "ended or stopped the reader"
                wrong.append((number, kind, text))
            if "\n" in text:
                wrong.append((number, kind, text))
            told[kind_of_end] += 1
        else:
            told["read"] += 1
            try:
                known = stated_of(KINDS[kind][1], path)
            except Exception as error:  # the second reader refuses what ours reads
                known, note = [], repr(error)
            else:
                note = ""
            if not any(same(found, a) for a in known):
                wrong.append((number, kind, found.grid, known, note))
                keep = tmp_path / f"wrong-{number}"
                shutil.copytree(place, keep)
        slowest = max(slowest, time.monotonic() - began)
    figures = ", ".join(f"{count} {what}" for what, count in sorted(told.items()))
    record_property("figures", f"{COUNT} corrupted files: {figures}; slowest {slowest:.2f} s")
    assert not wrong, "\n".join(map(str, wrong[:20])) + f"\n{len(wrong)} in all"
    assert slowest < 20 and told["read"] > COUNT // 20 and told["refused"] > COUNT // 4


def stated_of(stated: Callable[[Path], list[np.ndarray]], path: Path) -> list[np.ndarray]:
    return stated(path)
