"""A DICOM series that is damaged, incomplete or no regular grid is refused in one line, and what
scanners and archives do to good ones is no obstacle."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from cli_support import refuse
from samples import tiny_model

from ugmcl_core.data import volume
from ugmcl_core.data.checks.dicom import Slice, check_slices, numbers
from ugmcl_core.errors import InputError

MR = "1.2.840.10008.5.1.4.1.1.4"
PLANES = np.random.default_rng(0).integers(0, 1000, (8, 6, 5)).astype(np.int16)
AXIAL = (1, 0, 0, 0, 1, 0)
STEP = 2.5
EVEN = [(1.0, 2.0, STEP * n) for n in range(8)]


def series(folder: Path, positions=EVEN, orientations=None, **tags: str) -> Path:
    """A series of one file for each of the positions, s000.dcm and so on."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n, position in enumerate(positions):
        image = sitk.GetImageFromArray(PLANES[n : n + 1])
        image.SetSpacing((0.8, 0.8, STEP))
        orientation = orientations[n] if orientations else AXIAL
        for key, value in {
            "0008|0016": MR, "0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{n + 1}", "0020|0013": str(n + 1),
            "0020|0032": "\\".join(map(str, position)),
            "0020|0037": "\\".join(map(str, orientation)), **tags,
        }.items():  # fmt: skip
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"s{n:03d}.dcm"))
        writer.Execute(image)
    return folder


def element(group: int, number: int, kind: str, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, kind.encode(), len(value)) + value


def other_object(path: Path, sop_class: str, modality: str) -> None:
    """A DICOM file without an image."""
    uid = sop_class.encode()
    meta = element(2, 2, "UI", uid) + element(2, 3, "UI", b"1.2.9")
    meta += element(2, 16, "UI", b"1.2.840.10008.1.2.1")
    start = element(2, 0, "UL", struct.pack("<I", len(meta)))
    body = element(8, 0x16, "UI", uid) + element(8, 0x18, "UI", b"1.2.9")
    body += element(8, 0x60, "CS", modality.encode()) + element(32, 13, "UI", b"1.2.3")
    path.write_bytes(
        bytes(128) + b"DICM" + start + meta + body + element(32, 14, "UI", b"1.2.3.4")
    )


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        volume.read(folder)
    text = str(caught.value)
    assert str(folder) in text and "\n" not in text
    for word in words:
        assert word in text


def without(*left_out: int) -> list[tuple[float, ...]]:
    return [p for n, p in enumerate(EVEN) if n not in left_out]


UNEVEN = {
    "a missing slice": (without(3), "5 mm from s002.dcm to s003.dcm, mostly 2.5 mm"),
    "several missing slices": (without(2, 3, 4), "missing"),
    "a missing slice near the start": (without(1), "missing"),
    "a missing slice near the end": (without(6), "missing"),
    "three slices of four": (without(2, 4, 5, 6, 7), "missing"),
    "one slice far away": ([*EVEN[:7], (1.0, 2.0, 60.0)], "missing"),
    "two densities": ([(0, 0, z) for z in (0, 3, 6, 9, 14, 19, 24, 29)], "unevenly spaced"),
    "a slice twice": ([*EVEN[:7], EVEN[3]], "s003.dcm and s007.dcm lie at the same position"),
    "two phases": (EVEN[:4] * 2, "several phases"),
    "all at one place": (EVEN[:1] * 8, "same position"),
    "a tilted gantry": ([(1, 0.3 * z, z) for _, _, z in EVEN], "s007.dcm lies 5.25 mm off"),
    "a slightly tilted gantry": ([(1, 0.02 * z, z) for _, _, z in EVEN], "tilted gantry"),
    "a slice aside": ([*EVEN[:4], (3.0, 2.0, 4 * STEP), *EVEN[5:]], "s004.dcm lies 2 mm off"),
}


@pytest.mark.parametrize("kind", UNEVEN)
def test_slices_that_form_no_grid(kind, tmp_path, capfd):
    positions, why = UNEVEN[kind]
    refused(series(tmp_path / "scan", positions), why)
    assert capfd.readouterr() == ("", "")


def test_slices_of_different_orientations(tmp_path):
    turned = [AXIAL] * 5 + [(1, 0, 0, 0, 0.966, 0.259)] * 3
    refused(series(tmp_path / "scan", EVEN, turned), "s005.dcm has a different orientation")


def test_slices_of_different_pixels(tmp_path):
    folder = series(tmp_path / "scan")
    image = sitk.ReadImage(str(folder / "s002.dcm"))
    for key in image.GetMetaDataKeys():
        if key.startswith("ITK"):
            image.EraseMetaData(key)
    image.SetSpacing((1.6, 1.6, STEP))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(folder / "s002.dcm"))
    writer.Execute(image)
    refused(folder, "s002.dcm", "pixel spacing")


def test_slices_without_a_place(tmp_path):
    folder = series(tmp_path / "scan")
    for path in folder.iterdir():  # the tag becomes another one, which says nothing
        content = path.read_bytes()
        path.write_bytes(content.replace(b"\x20\0\x32\0", b"\x20\0\x31\0", 1))
    refused(folder, "lacks the position of its slice")


@pytest.mark.parametrize("which", [0, 3, 7])
@pytest.mark.parametrize("left", [0, 100, 140, 200, 600, -1])
def test_a_truncated_file(which, left, tmp_path, capfd):
    folder = series(tmp_path / "scan")
    path = folder / f"s{which:03d}.dcm"
    path.write_bytes(path.read_bytes()[:left])
    refused(folder, path.name, "damaged or truncated", "get it again")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("left", [0, 200, 600])
def test_a_truncated_file_without_a_suffix(left, tmp_path):
    folder = series(tmp_path / "scan")
    for n, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{n}")
    (folder / "IM7").write_bytes((folder / "IM7").read_bytes()[:left])
    refused(folder, "IM7", "damaged or truncated")


def good(folder: Path) -> volume.Volume:
    found = volume.read(folder)
    assert np.array_equal(found.array.transpose(2, 1, 0), PLANES)
    assert np.allclose(found.grid.spacing, (0.8, 0.8, STEP), rtol=0.01)
    return found


def test_other_files_beside_a_series(tmp_path):
    folder = series(tmp_path / "scan")
    for name, sop_class, modality in (
        ("DICOMDIR", "1.2.840.10008.1.3.10", ""),
        ("s100.dcm", "1.2.840.10008.5.1.4.1.1.88.11", "SR"),
        ("rt.dcm", "1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"),
        ("state.dcm", "1.2.840.10008.5.1.4.1.1.11.1", "PR"),
        ("private.ima", "1.3.12.2.1107.5.9.1", "MR"),
    ):
        other_object(folder / name, sop_class, modality)
    for name in ("LICENSE", "VERSION", "Thumbs.db", "._s000.dcm", ".DS_Store", "s000.jpg"):
        (folder / name).write_bytes(b"")
    (folder / "screenshots").mkdir()
    good(folder)


def turned(degrees: float) -> tuple[list, list]:
    """The positions of a stack that is turned about two axes, and its orientation."""
    a, b = np.radians([degrees, degrees / 2])
    rows = np.array([np.cos(a), np.sin(a), 0])
    columns = np.cross([-np.sin(a) * np.sin(b), np.cos(a) * np.sin(b), np.cos(b)], rows)
    normal = np.cross(rows, columns)
    return [tuple(n * STEP * normal - 90) for n in range(8)], [*rows, *columns]


@pytest.mark.parametrize("digits", [1, 2, 3, 6])
@pytest.mark.parametrize("degrees", [0.0, 17.0, 80.0])
def test_rounded_places_of_a_turned_stack(digits, degrees, tmp_path):
    positions, orientation = turned(degrees)
    places = [tuple(np.round(p, digits)) for p in positions]
    cosines = tuple(np.round(orientation, max(digits, 3)))
    good(series(tmp_path / "scan", places, [cosines] * 8))


@pytest.mark.parametrize("order", ["upward", "downward", "shuffled"])
def test_the_order_of_the_files_does_not_matter(order, tmp_path):
    folder = series(tmp_path / "scan")
    if order != "upward":
        names = [7, 6, 5, 4, 3, 2, 1, 0] if order == "downward" else [3, 0, 6, 1, 7, 5, 2, 4]
        for n, name in enumerate(names):
            (folder / f"s{n:03d}.dcm").rename(folder / f"{name}.dcm")
    good(folder)


def test_a_single_slice(tmp_path):
    """Its spacing would be 1 mm, whatever its thickness."""
    refused(series(tmp_path / "scan", EVEN[:1]), "single DICOM slice", "get the whole series")


def test_two_slices(tmp_path):
    found = volume.read(series(tmp_path / "scan", EVEN[:2]))
    assert np.allclose(found.grid.spacing, (0.8, 0.8, STEP))


def test_slices_with_rescale_slopes_of_their_own_keep_their_values(tmp_path):
    """As in PET: the voxel type of the first slice would round those of the others to 0."""
    folder = series(tmp_path / "pet")
    slopes = np.array([1.0, *(1e-4 * (n + 1) for n in range(1, 8))])
    for n, slope in enumerate(slopes):
        dataset = pydicom.dcmread(folder / f"s{n:03d}.dcm")
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:g}", "0"
        dataset.save_as(folder / f"s{n:03d}.dcm")
    found = volume.read(folder)
    assert found.array.dtype == np.float32
    expected = PLANES * slopes[:, None, None]
    assert np.allclose(found.array.transpose(2, 1, 0), expected, rtol=1e-6)


def test_a_series_without_pixel_spacing_is_refused():
    slices = [Slice(f"s{n}", np.array([0, 0, n * STEP]), np.array(AXIAL, float), None)
              for n in range(3)]  # fmt: skip
    with pytest.raises(InputError, match="Pixel Spacing"):
        check_slices(Path("scan"), slices)


def test_decimal_strings():
    assert numbers("1\\-2.5\\3e1 ", 3).tolist() == [1, -2.5, 30]
    assert numbers("1\\2\0", 2).tolist() == [1, 2]
    for text in (None, "", "1\\2", "1\\2\\nan", "1\\2\\x", "1\\\\2"):
        assert numbers(text, 3) is None


def test_the_command_line_says_it_in_one_line(tmp_path, capfd):
    model = tiny_model(tmp_path / "model").folder
    folder = series(tmp_path / "scan", without(3))
    shutil.copy(folder / "s000.dcm", tmp_path / "whole.dcm")
    out = tmp_path / "out"
    words = ["segment", folder, "--model", model, "--output", out, "--device", "cpu"]
    refuse(capfd, *words, why="missing or unevenly spaced", out=out)
    (folder / "s001.dcm").write_bytes((tmp_path / "whole.dcm").read_bytes()[:600])
    refuse(capfd, *words, why="damaged or truncated", out=out)


def stack(heights, orientation=AXIAL, normal=(0.0, 0.0, 1.0)) -> list[Slice]:
    pixel = np.array([0.5, 0.5])
    return [
        Slice(f"s{n}", h * np.array(normal), np.array(orientation, float), pixel)
        for n, h in enumerate(heights)
    ]


@pytest.mark.parametrize("step", [0.25, 0.33, 0.45, 0.625, 0.67])
def test_thin_slices_with_places_to_a_tenth_of_a_millimeter_pass_unless_one_is_missing(step):
    for offset in np.linspace(0.0, 1.0, 40):
        heights = np.round(offset + step * np.arange(150), 1)
        check_slices(Path("series"), stack(heights))
        with pytest.raises(InputError, match="missing or unevenly spaced"):
            check_slices(Path("series"), stack(np.delete(offset + step * np.arange(150), 70)))


def test_cosines_of_three_digits_do_not_look_like_a_tilted_gantry():
    rng = np.random.default_rng(0)
    for _ in range(200):
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        normal = np.cross(axes[0], axes[1])
        orientation = np.round(np.concatenate([axes[0], axes[1]]), 3)
        check_slices(Path("series"), stack(np.arange(100.0), orientation, normal))


def test_cosines_that_name_no_plane_say_nothing_of_the_place():
    with pytest.raises(InputError, match="lacks the position of its slice"):
        check_slices(Path("series"), stack(np.arange(4.0), (1, 0, 0, 1, 0, 0)))


@pytest.mark.parametrize("sop_class", [MR[:-7], MR.replace(".5.", ".5/"), "1.2.9x"])
@pytest.mark.parametrize("which", ["s000.dcm", "s007.dcm"])
def test_a_slice_with_a_damaged_class_at_the_end_is_missed(tmp_path, sop_class, which):
    place = series(tmp_path / "series")
    other_object(place / which, sop_class, "MR")
    with pytest.raises(InputError, match=f"{which}: the DICOM file is damaged"):
        volume.read(place)


def test_a_length_beyond_the_file_is_refused_at_once(tmp_path):
    place = series(tmp_path / "series")
    content = (place / "s003.dcm").read_bytes()
    spot = content.index(b"\x28\x00\x30\x00") + 4  # Pixel Spacing, in implicit or explicit form
    spot += 2 if content[spot : spot + 2] == b"DS" else 0
    (place / "s003.dcm").write_bytes(content[:spot] + b"\xff\xfe\xff\x7f" + content[spot + 4 :])
    for given in (place, place / "s003.dcm"):
        with pytest.raises(InputError, match=r"s003\.dcm: the DICOM file is damaged"):
            volume.read(given)


def test_a_spacing_that_the_reader_leaves_out_is_refused_with_both_values(tmp_path):
    place = series(tmp_path / "series")
    head, sign, rest = (place / "s000.dcm").read_bytes().rpartition(MR.encode())
    assert sign and MR.encode() in head  # in the header of the file and in that of the image
    (place / "s000.dcm").write_bytes(head + sign.replace(b"840", b"040") + rest)
    with pytest.raises(InputError, match=r"0\.8 x 0\.8 x 2\.5 mm .* 1 x 1 x 2\.5 mm"):
        volume.read(place)


def changed(folder: Path, number: int, **values) -> None:
    """Change elements of a slice, or remove those that are None."""
    path = folder / f"s{number:03d}.dcm"
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


@pytest.mark.parametrize("which", [0, 5])
def test_slices_of_another_voxel_type_keep_their_values(which, tmp_path):
    """The voxel type of the first slice would cut those of the others off."""
    folder = series(tmp_path / "scan")
    expected = PLANES.astype(np.float32)
    expected[which] = PLANES[which] % 200
    changed(
        folder, which, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0,
        PixelData=expected[which].astype(np.uint8).tobytes(),
    )  # fmt: skip
    assert np.array_equal(volume.read(folder).array.transpose(2, 1, 0), expected)
    folder = series(tmp_path / "unsigned")
    expected[which] = PLANES[which] + 40000.0
    changed(
        folder, which, PixelRepresentation=0,
        PixelData=expected[which].astype(np.uint16).tobytes(),
    )  # fmt: skip
    assert volume.read(folder).array.transpose(2, 1, 0)[which].max() == expected[which].max()


@pytest.mark.parametrize("which", [0, 5])
def test_pixels_that_are_missing_are_not_made_up(which, tmp_path):
    folder = series(tmp_path / "scan")
    changed(folder, which, PixelData=PLANES[which].tobytes()[:40])
    refused(folder, f"s{which:03d}.dcm", "truncated")


def test_the_pixels_of_an_icon_are_not_those_of_the_slice(tmp_path):
    folder = series(tmp_path / "scan")
    icon = pydicom.Dataset()
    icon.Rows, icon.Columns, icon.SamplesPerPixel, icon.BitsAllocated = 64, 64, 1, 8
    icon.BitsStored, icon.HighBit, icon.PixelRepresentation = 8, 7, 0
    icon.PhotometricInterpretation, icon.PixelData = "MONOCHROME2", bytes(64 * 64)
    changed(folder, 3, IconImageSequence=[icon])
    assert np.array_equal(volume.read(folder).array.transpose(2, 1, 0), PLANES)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, -0.3, 0.95, 0), (2, 0, 0, 0, 2, 0), (1, 0, 0, 0, 0.5, 0)]
)
def test_an_orientation_that_is_none(orientation, tmp_path):
    folder = series(tmp_path / "scan")
    for n in range(8):
        changed(folder, n, ImageOrientationPatient=list(orientation))
    refused(folder, "Image Orientation of s000.dcm")


def test_a_link_that_leads_nowhere_hides_no_slice(tmp_path):
    folder = series(tmp_path / "scan")
    (folder / "s007.dcm").unlink()
    (folder / "s007.dcm").symlink_to(tmp_path / "nowhere")
    refused(folder, "s007.dcm: the link leads nowhere")


def test_slices_of_different_sizes(tmp_path):
    folder = series(tmp_path / "scan")
    changed(folder, 4, Rows=5, Columns=6)
    refused(folder, "different sizes", "folder of its own")
