"""Damaged image files are refused with one line that says so; ITK prints nothing of its own."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from cli_support import segment
from samples import on_grid, tiny_model

from ugmcl_core.data import volume
from ugmcl_core.data.pairing import by_stem
from ugmcl_core.errors import InputError

SHAPE = (16, 14, 12)
SIZE = int(np.prod(SHAPE)) * 4


def values() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, np.float32)


def saved(path: Path, compress: bool = True) -> Path:
    image = sitk.GetImageFromArray(values())
    sitk.WriteImage(image, str(path), useCompression=compress)
    return path


def nifti(
    path: Path, order: str = "<", pixdim=(1, 1, 1), dim=SHAPE, voxels=None, offset=352
) -> Path:
    """A NIfTI file made by hand of float32 or float64; compressed if its name says so."""
    voxels = values() if voxels is None else voxels
    size = voxels.dtype.itemsize
    head = bytearray(offset)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, 3, *dim, 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", head, 70, {4: 16, 8: 64}[size], 8 * size)
    struct.pack_into(f"{order}9f", head, 76, 1, *pixdim, 0, 0, 0, 0, offset)
    struct.pack_into(f"{order}2h", head, 252, 1, 0)  # the axes are those of the scanner
    head[344:348] = b"n+1\0"
    whole = bytes(head) + voxels.astype(f"{order}f{size}").tobytes()
    path.write_bytes(gzip.compress(whole) if path.name.endswith(".gz") else whole)
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        volume.read(path)
    text = str(caught.value)
    assert path.name in text and "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", "<>")
def test_whole_nifti_files_are_read(order, suffix, tmp_path):
    found = volume.read(nifti(tmp_path / f"v{suffix}", order))
    assert found.grid.shape == SHAPE
    assert np.array_equal(found.array.ravel(order="F"), values().ravel())


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("left", [200, 600, SIZE, -1])
def test_truncated_nifti_files_are_refused(order, left, tmp_path):
    path = nifti(tmp_path / "v.nii", order)
    path.write_bytes(path.read_bytes()[:left])
    refused(path, "truncated", "get it again")


def test_a_nifti_file_that_was_compressed_after_its_truncation(tmp_path):
    path = nifti(tmp_path / "v.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))
    refused(path, "truncated", "get it again")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("wrong", [0.0, float("nan"), float("inf"), -1.0])
def test_an_unusable_nifti_spacing_is_not_taken_for_one_mm(wrong, suffix, tmp_path):
    path = nifti(tmp_path / f"v{suffix}", pixdim=(1, wrong, 1))
    refused(path, "spacing", "header")


def with_value(value: float, place: int, kind: str) -> np.ndarray:
    array = values().astype(kind)
    array.ravel()[place] = value
    return array


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nifti_voxels_that_are_not_finite(value, kind, order, suffix, tmp_path):
    for place, offset in ((0, 352), (1234, 360), (-1, 352)):
        voxels = with_value(value, place, kind)
        path = nifti(tmp_path / f"v{suffix}", order, voxels=voxels, offset=offset)
        refused(path, "NaN or infinite", "replace them")
        with pytest.raises(InputError, match="NaN or infinite"):
            volume.read_labels(path)


def test_nifti_voxels_are_looked_at_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("ugmcl_core.data.checks.image_file._CHUNK", 64)
    for place in (0, 15, 16, 17, -17, -1):
        path = nifti(tmp_path / "v.nii.gz", voxels=with_value(np.nan, place, "f4"), offset=500)
        refused(path, "NaN or infinite")
    assert volume.read(nifti(tmp_path / "v.nii.gz", offset=500)).grid.shape == SHAPE


def test_what_follows_the_voxels_of_a_nifti_file_may_be_anything(tmp_path):
    path = nifti(tmp_path / "v.nii")
    path.write_bytes(path.read_bytes() + np.full(9, np.nan, np.float32).tobytes())
    assert volume.read(path).grid.shape == SHAPE


@pytest.mark.parametrize("offset", [1e6, 3e38])
def test_voxels_far_behind_the_end_of_a_nifti_file(offset, tmp_path):
    path = nifti(tmp_path / "v.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 108, offset)
    path.write_bytes(content)
    refused(path, "truncated")


def test_the_voxels_of_an_unpacked_nifti_file_are_not_taken_for_the_packed_ones(tmp_path):
    packed, unpacked = nifti(tmp_path / "v.nii.gz"), tmp_path / "v.nii"
    nifti(unpacked, voxels=values() + 1)
    refused(packed, "v.nii is in the same folder", "Move one away")
    assert np.array_equal(volume.read(unpacked).array.ravel(order="F"), (values() + 1).ravel())
    unpacked.unlink()
    assert np.array_equal(volume.read(packed).array.ravel(order="F"), values().ravel())


def test_nifti_2_is_refused_in_words(tmp_path):
    path = tmp_path / "v.nii"
    path.write_bytes(struct.pack("<i8s", 540, b"n+2\0\r\n\x1a\n") + bytes(5000))
    refused(path, "NIfTI-2", "save")


@pytest.mark.parametrize("dim", [(0, 14, 12), (-4, 14, 12)])
def test_an_impossible_nifti_size(dim, tmp_path):
    refused(nifti(tmp_path / "v.nii", dim=dim), "header")


def test_nifti_files_of_simpleitk_are_whole(tmp_path):
    for kind in (np.uint8, np.int16, np.float64):
        for suffix in (".nii", ".nii.gz"):
            path = tmp_path / f"{kind.__name__}-{suffix.count('.')}{suffix}"
            volume.write(path, on_grid(np.ones((3, 5, 7), kind)))
            assert volume.read(path).array.sum() == 105


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
def test_truncated_files_are_said_to_be_and_nothing_else_is_printed(
    suffix, compress, tmp_path, capfd
):
    path = saved(tmp_path / f"v{suffix}", compress)
    assert volume.read(path).array.size == SIZE // 4
    cut = tmp_path / ("v.zraw" if compress else "v.raw") if suffix == ".mhd" else path
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    refused(path, "damaged or truncated", "get it again")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
def test_altered_compressed_voxels_are_not_read_as_noise(suffix, tmp_path, capfd):
    path = saved(tmp_path / f"v{suffix}")
    content = bytearray(path.read_bytes())
    for n in range(len(content) // 2, len(content) // 2 + 50):
        content[n] ^= 0x5A
    path.write_bytes(content)
    refused(path, "damaged", "get it again")
    assert capfd.readouterr() == ("", "")


def test_well_compressed_voxels_are_counted_to_the_end(tmp_path):
    for suffix in (".mha", ".nrrd", ".nii.gz"):
        path = tmp_path / f"v{suffix}"
        volume.write(path, on_grid(np.zeros((300, 300, 250), np.uint8)))  # more than one chunk
        assert volume.read(path).array.size == 300 * 300 * 250


def test_voxels_missing_beside_their_header(tmp_path, capfd):
    path = saved(tmp_path / "v.mhd", compress=False)
    (tmp_path / "v.raw").unlink()
    refused(path, "v.raw", "missing")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"not an image\n", b"NRRD", b"a = b\n"])
def test_something_else_under_an_images_name(suffix, content, tmp_path, capfd):
    path = tmp_path / f"v{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    refused(path)
    assert capfd.readouterr() == ("", "")


def nrrd(path: Path, directions: str) -> Path:
    path.write_bytes(
        "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: 12 14 16\nspace directions: {directions}\nencoding: raw\n"
        "endian: little\nspace origin: (0,0,0)\n\n".encode()
        + values().tobytes()
    )
    return path


@pytest.mark.parametrize("lean", [0.3, 0.01, -0.003])
def test_sheared_axes_are_refused(lean, tmp_path):
    refused(nrrd(tmp_path / "v.nrrd", f"(1,0,0) ({lean},1,0) (0,0,1)"), "sheared", "resample")
    path = tmp_path / "v.nii"
    nifti(path)
    head = bytearray(path.read_bytes())
    struct.pack_into("<h", head, 254, 1)
    struct.pack_into("<12f", head, 280, 1, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    path.write_bytes(head)
    refused(path, "sheared")


def test_rounded_axes_are_not_sheared(tmp_path):
    path = nrrd(tmp_path / "v.nrrd", "(0.866,0.5,0) (-0.5,0.866,0) (0,0,1)")
    assert volume.read(path).grid.shape == (12, 14, 16)


def test_a_spacing_of_zero_says_what_to_do(tmp_path):
    refused(nrrd(tmp_path / "v.nrrd", "(1,0,0) (0,1,0) (0,0,0)"), "spacing", "correct", "header")


def test_two_files_of_one_name_are_named(tmp_path):
    for name in ("a.nrrd", "a.nii.gz", "b.nrrd"):
        saved(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.nii\.gz.*a\.nrrd"):
        by_stem(tmp_path)
    (tmp_path / "a.nrrd").unlink()
    assert by_stem(tmp_path) == {"a": tmp_path / "a.nii.gz", "b": tmp_path / "b.nrrd"}
    with pytest.raises(InputError, match="no such folder"):
        by_stem(tmp_path / "nowhere")


def in_header(path: Path, **fields) -> Path:
    """The NIfTI file with other numbers at the named places."""
    packed = {"qform": (252, "h"), "sform": (254, "h"), "srow": (280, "12f"), "magic": (344, "4s")}
    content = bytearray(path.read_bytes())
    for name, value in fields.items():
        place, kind = packed[name]
        struct.pack_into(f"<{kind}", content, place, *np.atleast_1d(value).tolist())
    path.write_bytes(content)
    return path


def srow(*spacing: float) -> list[float]:
    return np.column_stack([np.diag(spacing), np.zeros(3)]).ravel().tolist()


def test_a_nifti_header_that_contradicts_itself_is_refused(tmp_path):
    path = in_header(nifti(tmp_path / "v.nii"), qform=0, sform=1, srow=srow(0.6, 0.6, 1.2))
    refused(path, "1 x 1 x 1 mm by pixdim", "0.6 x 0.6 x 1.2 mm by sform")
    path = nifti(tmp_path / "w.nii", pixdim=(0.6, 0.6, 1.2))
    in_header(path, qform=0, sform=1, srow=srow(0.6, 0.6, 1.2))
    assert volume.read(path).grid.spacing == pytest.approx((0.6, 0.6, 1.2))


def test_a_nifti_file_without_orientation_is_refused(tmp_path):
    refused(in_header(nifti(tmp_path / "v.nii"), qform=0), "no orientation", "qform and sform")
    refused(in_header(nifti(tmp_path / "w.nii"), magic=b"\0\0\0\0"), "Analyze")


def test_names_that_lie_about_compression(tmp_path):
    plain = nifti(tmp_path / "v.nii").rename(tmp_path / "v.nii.gz")
    refused(plain, "not compressed; rename it to v.nii")
    packed = nifti(tmp_path / "w.nii.gz").rename(tmp_path / "w.nii")
    refused(packed, "compressed with gzip; rename it to w.nii.gz")


METAIMAGE = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1 1 1",
    "DimSize": "4 4 4", "ElementType": "MET_UCHAR", "ElementDataFile": "LOCAL",
}  # fmt: skip
NRRD = {
    "type": "uchar", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 4 4",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)", "encoding": "raw", "space origin": "(0,0,0)",
}  # fmt: skip


def with_header(path: Path, changes: dict) -> Path:
    """A file of 4x4x4 voxels whose header has other fields, or lacks those that are None."""
    fields, sign = (METAIMAGE, " = ") if path.suffix == ".mha" else (NRRD, ": ")
    lines = [f"{k}{sign}{v}" for k, v in {**fields, **changes}.items() if v is not None]
    if path.suffix == ".mha":  # which must end its header
        lines.sort(key=lambda line: line.startswith("ElementDataFile"))
    text = "\n".join(lines) + "\n"
    head = text if path.suffix == ".mha" else f"NRRD0005\n{text}\n"
    path.write_bytes(head.encode() + bytes(range(64)))
    return path


@pytest.mark.parametrize(
    ("suffix", "changes", "words"),
    [
        (".mha", {"NDims": "-1"}, "NDims = -1"),
        (".mha", {"NDims": "1000000000"}, "NDims"),
        (".mha", {"NDims": None}, "number of dimensions"),
        (".mha", {"DimSize": "4 4"}, "DimSize"),
        (".mha", {"DimSize": "4 4 -4"}, "DimSize"),
        (".mha", {"DimSize": "999999999 999999999 4"}, "DimSize"),
        (".mha", {"Offset": "a b c"}, "Offset = a b c"),
        (".mha", {"Offset": "0 0 inf"}, "Offset"),
        (".mha", {"Offset": None}, "no position"),
        (".mha", {"ElementSpacing": None}, "no spacing"),
        (".mha", {"ElementSpacing": "1 0 1"}, "spacing 1 x 0 x 1"),
        (".mha", {"ElementSpacing": "1 nan 1"}, "ElementSpacing"),
        (".mha", {"TransformMatrix": None}, "no orientation"),
        (".mha", {"TransformMatrix": "1 0 0 0 1 0 0 0 x"}, "TransformMatrix"),
        (".mha", {"ElementNumberOfChannels": "-3"}, "ElementNumberOfChannels"),
        (".mha", {"ElementType": "MET_NOTHING"}, "ElementType"),
        (".nrrd", {"sizes": "4 4"}, "sizes"),
        (".nrrd", {"sizes": "4 4 -4"}, "sizes"),
        (".nrrd", {"dimension": None}, "size"),
        (".nrrd", {"space directions": None}, "no spacing"),
        (".nrrd", {"space directions": None, "spacings": "1 1 1"}, "no orientation"),
        (".nrrd", {"space directions": "(1,0,0) (0,x,0) (0,0,1)"}, "space directions"),
        (".nrrd", {"space origin": "(0,0,nan)"}, "space origin"),
        (".nrrd", {"space origin": None}, "no position (space origin)"),
        (".nrrd", {"space": "scanner-xyz"}, "space: scanner-xyz"),
        (".nrrd", {"space": "3D-left-handed"}, "space: 3D-left-handed"),
        (".nrrd", {"space units": '"um" "um" "um"'}, "space units: um"),
        (".nrrd", {"sizes": "4 4 3"}, "64 bytes of voxels, and 48 by its header"),
        (".nrrd", {"data file": "/dev/zero"}, "missing"),
        (".mha", {"DistanceUnits": "m"}, "DistanceUnits = m"),
        (".mha", {"Position": "1 2 3"}, "Offset = 0 0 0, but Position = 1 2 3"),
        (".mha", {"Rotation": "0 1 0 1 0 0 0 0 1"}, "TransformMatrix"),
        (".mha", {"DimSize ": "4 2 8"}, "two values of DimSize"),
        (".mha", {"DimSize": "4 4 3"}, "64 bytes of voxels, and 48 by its header"),
        (".mha", {"HeaderSize": "7"}, "HeaderSize"),
        (".mha", {"HeaderSize": "x"}, "HeaderSize"),
        (".mha", {"ElementToIntensityFunctionSlope": "2"}, "not applied"),
        (".mha", {"ElementToIntensityFunctionOffset": "x"}, "not applied"),
        (".mha", {"ElementDataFile": "s%d.raw 1 3 1"}, "3 files for 4 slices"),
        (".mha", {"ElementDataFile": "s%d.raw 1 4"}, "ElementDataFile"),
        (".mha", {"ElementDataFile": "LIST" + 9 * "\na"}, "files for 4 slices"),
    ],
)
def test_headers_without_a_certain_geometry_are_refused(suffix, changes, words, tmp_path, capfd):
    assert volume.read(with_header(tmp_path / f"good{suffix}", {})).grid.shape == (4, 4, 4)
    refused(with_header(tmp_path / f"v{suffix}", changes), words)
    assert capfd.readouterr() == ("", "")


def two_forms(path: Path, qform: np.ndarray | None, sform: np.ndarray | None) -> Path:
    image = nibabel.Nifti1Image(values(), None)
    image.header.set_zooms((0.5, 1, 2))
    image.set_qform(qform, 0 if qform is None else 1)
    image.set_sform(sform, 0 if sform is None else 1)
    nibabel.save(image, path)
    return path


FORM = np.diag([0.5, 1.0, 2.0, 1.0])


def moved(shift: float) -> np.ndarray:
    matrix = FORM.copy()
    matrix[0, 3] = shift
    return matrix


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_which_of_two_geometries_is_used_is_named(tmp_path, suffix):
    path = two_forms(tmp_path / f"v{suffix}", moved(0), moved(3))
    (remark,) = volume.read(path).remarks
    assert "qform and sform lie 3 mm apart; the " in remark and path.name in remark
    used = {"qform is used": 0.0, "sform is used": 3.0}[remark[-13:]]
    assert volume.read(path).grid.origin[0] == pytest.approx(used)
    near = moved(3.01)
    for forms in ((moved(3), moved(3)), (moved(3), None), (None, moved(3)), (moved(3), near)):
        assert volume.read(two_forms(path, *forms)).remarks == ()


def test_the_user_sees_which_geometry_is_used(tmp_path, capsys):
    path = two_forms(tmp_path / "v.nii", moved(0), moved(3))
    model = tiny_model(tmp_path / "tiny")
    assert segment(model, tmp_path / "out", path) == 0
    assert "qform and sform lie 3 mm apart" in capsys.readouterr().err


def test_a_damaged_qform_is_refused_even_beside_an_sform(tmp_path):
    content = bytearray(two_forms(tmp_path / "v.nii", moved(0), moved(0)).read_bytes())
    struct.pack_into("<f", content, 256, 7e9)
    (tmp_path / "v.nii").write_bytes(content)
    refused(tmp_path / "v.nii", "qform")


def leaning(folder: Path, lean: float) -> list[Path]:
    """An image whose second axis leans by so much, as NRRD, MHA and NIfTI."""
    nrrd(folder / "v.nrrd", f"(1,0,0) ({lean},1,0) (0,0,1)")
    matrix = np.eye(4)
    matrix[0, 1] = lean
    image = nibabel.Nifti1Image(values(), None)
    image.header.set_zooms((1, float(np.linalg.norm(matrix[:3, 1])), 1))
    image.set_sform(matrix, 1)
    image.set_qform(None, 0)
    nibabel.save(image, folder / "v.nii")
    saved(folder / "v.mha", compress=False)
    content = (folder / "v.mha").read_bytes()
    turned = f"TransformMatrix = 1 0 0 {lean} 1 0 0 0 1".encode()
    (folder / "v.mha").write_bytes(content.replace(b"TransformMatrix = 1 0 0 0 1 0 0 0 1", turned))
    return [folder / f"v{suffix}" for suffix in (".nrrd", ".mha", ".nii")]


@pytest.mark.parametrize(("lean", "is_read"), [(1e-4, True), (1.5e-3, True), (3e-3, False)])
def test_a_skew_that_one_format_accepts_all_accept(tmp_path, lean, is_read):
    for path in leaning(tmp_path, lean):
        if is_read:
            volume.read(path)
        else:
            refused(path, "sheared")


@pytest.mark.parametrize("size", [None, "100", "-3", "99999999999"])
def test_a_compressed_size_that_is_not_there_is_not_read_as_noise(size, tmp_path):
    packed = zlib.compress(bytes(range(64)))
    for is_right in (True, False):
        given = str(len(packed)) if is_right else size
        path = with_header(
            tmp_path / "v.mha", {"CompressedData": "True", "CompressedDataSize": given}
        )
        path.write_bytes(path.read_bytes()[:-64] + packed)
        if is_right:
            assert volume.read(path).array.ravel("F").tolist() == list(range(64))
        else:
            refused(path, "CompressedDataSize", str(len(packed)))


def test_spaces_within_the_vectors_of_a_nrrd_are_none_of_its_business(tmp_path):
    directions = "(1, 0, 0) (0, 1, 0) (0, 0, 1)"
    path = with_header(tmp_path / "v.nrrd", {"space directions": directions})
    assert volume.read(path).grid.shape == (4, 4, 4)


@pytest.mark.parametrize(("code", "words"), [(1, "in meters"), (3, "in micrometers"), (2, "")])
def test_nifti_files_in_other_units_are_refused(code, words, tmp_path):
    path = nifti(tmp_path / "v.nii")
    content = bytearray(path.read_bytes())
    content[123] = code
    path.write_bytes(content)
    if words:
        refused(path, words, "save it in mm")
    else:
        volume.read(path)


@pytest.mark.parametrize(
    ("slope", "intercept", "is_read"),
    [
        (0, 0, True), (np.nan, np.nan, True), (1, 7, True), (0, 5, False), (np.inf, 0, False),
        (1, np.nan, False), (1e-20, 0, False),
    ],
)  # fmt: skip
def test_a_scaling_that_the_reader_would_pass_over_is_refused(slope, intercept, is_read, tmp_path):
    path = nifti(tmp_path / "v.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, slope, intercept)
    path.write_bytes(content)
    if is_read:
        volume.read(path)
    else:
        refused(path, "scl_slope")


def test_the_voxel_type_of_a_nifti_file_counts_and_not_its_bits(tmp_path):
    path = nifti(tmp_path / "v.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 72, 8)
    path.write_bytes(content[: 352 + SIZE // 4])
    refused(path, "truncated", str(352 + SIZE))


@pytest.mark.parametrize("suffix", [".tif", ".vtk", ".gipl", ".hdr", ".h5"])
def test_formats_whose_geometry_nobody_checks_are_refused(suffix, tmp_path):
    image = sitk.GetImageFromArray(values())
    image.SetSpacing((0.5, 0.5, 2))
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(image, str(path))
    refused(path, "convert it to NRRD")


def test_a_fourth_axis_that_lies_across_the_others_is_refused(tmp_path):
    fields = {"NDims": "4", "DimSize": "4 4 4 1", "ElementSpacing": "1 1 1 1", "Offset": "0 0 0 0"}
    for rows, is_read in (("1 0 0 0  0 1 0 0  0 0 1 0  0 0 0 1", True),
                          ("0 0 0 1  0 1 0 0  0 0 1 0  1 0 0 0", False)):  # fmt: skip
        path = with_header(tmp_path / "v.mha", {**fields, "TransformMatrix": rows})
        if is_read:
            assert volume.read(path).grid.shape == (4, 4, 4)
        else:
            refused(path, "fourth axis")


def test_a_nrrd_header_that_ends_too_early_is_said_to_be_truncated(tmp_path):
    content = with_header(tmp_path / "v.nrrd", {}).read_bytes()
    (tmp_path / "v.nrrd").write_bytes(content[: content.index(b"encoding")])
    refused(tmp_path / "v.nrrd", "truncated")
