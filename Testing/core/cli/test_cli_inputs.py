"""The images of one call of `ugmcl segment`: folders, series, links, bad ones among good ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_support import files, segment
from samples import contents, small_case, tiny_model, write_image

from ugmcl_core.__main__ import main
from ugmcl_core.cli.images import find_images
from ugmcl_core.data import guarded, volume
from ugmcl_core.errors import InputError
from ugmcl_core.inference import segmenter

ROOT = Path(__file__).resolve().parents[3]


def test_folders_are_inputs_and_results_in_them_are_not(model, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(2):
        write_image(scans / f"s{n}.nrrd", seed=n)
    for _ in range(2):  # the second time the results lie beside the images
        assert segment(model, scans, scans, "--json") == 0
        lines = capsys.readouterr().out.splitlines()
        assert [Path(json.loads(line)["image"]).name for line in lines] == ["s0.nrrd", "s1.nrrd"]
    assert len(files(scans)) == 10


def test_labels_of_an_expert_are_no_image_and_never_replaced(model, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    write_image(scans / "a.nrrd")
    volume.write(scans / "a_labels.nrrd", small_case()[1])
    assert segment(model, tmp_path / "out", scans, "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(json.loads(x)["image"]).name for x in lines] == ["a.nrrd"]
    before = contents(scans)
    assert segment(model, scans, scans) == 2
    assert contents(scans) == before
    assert "a_labels.nrrd" in capsys.readouterr().err


def test_a_folder_of_results_holds_no_image(model, scan, tmp_path, capsys):
    assert segment(model, tmp_path / "out", scan) == 0
    assert segment(model, tmp_path / "again", tmp_path / "out") == 2
    assert "contains only results" in capsys.readouterr().err


def test_a_dicom_series_is_an_input(model, scan, tmp_path, capsys):
    series = tmp_path / "patients" / "series7"
    series.mkdir(parents=True)
    write_dicom(series, volume.read(scan))
    for n, given in enumerate((series, tmp_path / "patients")):
        out = tmp_path / f"out{n}"
        assert segment(model, out, given) == 0
        labels = volume.read(out / "series7_labels.nrrd")
        assert labels.grid.same_as(volume.read(series).grid)


def test_a_dicom_folder_takes_its_own_results(model, scan, tmp_path):
    series = tmp_path / "d"
    series.mkdir()
    write_dicom(series, volume.read(scan))
    assert segment(model, series, series) == 0
    once = contents(series)
    assert segment(model, series, series) == 0
    again = contents(series)
    first, second = (json.loads(c.pop("d_manifest.json"))["inputs"] for c in (once, again))
    assert again == once and "d_labels.nrrd" in once
    assert first == second, "results beside the slices are no input"


def test_a_single_dicom_slice_is_no_scan(model, scan, tmp_path, capsys):
    write_dicom(tmp_path, volume.read(scan))
    assert segment(model, tmp_path / "out", tmp_path / "003.dcm") == 2
    told = capsys.readouterr().err
    assert "003.dcm: a single DICOM slice; give the folder of its series" in told
    assert files(tmp_path / "out") == []


def test_bad_entries_and_loose_files_do_not_hide_the_series_beside_them(
    model, scan, tmp_path, capsys
):
    scans = tmp_path / "scans"
    for name in ("p1/DICOM", "p2/DICOM", "empty", "notes", "single"):
        (scans / name).mkdir(parents=True)
    write_dicom(scans / "p1" / "DICOM", volume.read(scan))
    write_dicom(scans / "p2" / "DICOM", volume.read(scan))
    write_dicom(scans / "single", volume.read(scan))
    for place in (scans, scans / "p1", scans / "notes"):
        (place / "README.txt").write_text("no image")
    write_dicomdir(scans / "DICOMDIR")
    out = tmp_path / "out"
    assert segment(model, out, scans, "--uncertainty-passes", "0") == 1
    told = capsys.readouterr().err
    assert "empty: the folder is empty" in told and "no DICOM series" in told
    assert "2 of 5 images failed" in told
    assert [n for n in files(out) if "labels" in n] == [
        f"{stem}_labels.nrrd" for stem in ("p1_DICOM", "p2_DICOM", "single")
    ]


def test_what_lies_beside_a_series_is_named(model, scan, tmp_path, capsys):
    series = tmp_path / "series"
    series.mkdir()
    write_dicom(series, volume.read(scan))
    assert segment(model, series, series) == 0  # results are not named, nor the index
    write_dicomdir(series / "DICOMDIR")
    (series / ".hidden").touch()
    capsys.readouterr()
    assert segment(model, series, series) == 0
    assert "left out" not in capsys.readouterr().err
    for name in ("README.txt", "notes.pdf", "report.xml", "viewer.exe"):
        (series / name).write_text("no image")
    assert segment(model, tmp_path / "out", series) == 0
    line = "only the DICOM series is read; left out: README.txt, notes.pdf, report.xml and 1 more"
    assert line in capsys.readouterr().err
    assert main(["rank", "--model", str(model.folder), str(series), "--device", "cpu"]) == 0
    assert line in capsys.readouterr().err


def test_a_series_and_folders_beside_image_files_are_named(model, scan, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    (mixed / "later").mkdir(parents=True)
    shutil.copy(scan, mixed / "scan.nrrd")
    write_dicom(mixed, volume.read(scan))
    assert segment(model, tmp_path / "out", mixed) == 0
    told = capsys.readouterr().err
    assert "its folders are left out (later)" in told
    assert "its DICOM files are left out; move them to a folder of their own" in told
    assert [n for n in files(tmp_path / "out") if "labels" in n] == ["scan_labels.nrrd"]


def test_images_of_one_name_in_many_folders_get_names_of_their_own(model, tmp_path):
    tree = tmp_path / "tree"
    for n, place in enumerate(("p1/anat", "p2/anat", "p2/later/anat")):
        (tree / place).mkdir(parents=True)
        write_image(tree / place / "T1.nrrd", seed=n)
        write_image(tree / place / f"T2-{n}.nrrd", seed=n)
    assert segment(model, tmp_path / "out", tree, "--uncertainty-passes", "0") == 0
    assert [n[: -len("_labels.nrrd")] for n in files(tmp_path / "out") if "_labels" in n] == [
        "T2-0", "T2-1", "T2-2", "later_anat_T1", "p1_anat_T1", "p2_anat_T1"
    ]  # fmt: skip


def write_dicom(folder, content):
    """A minimal MR series, one slice a file."""
    import SimpleITK as sitk

    array = np.round(content.array).astype(np.int16).transpose(2, 1, 0)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing(content.grid.spacing[:2])
        place = content.grid.affine @ [0, 0, k, 1]
        tags = {
            "0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{k + 1}", "0020|0013": str(k + 1),
            "0020|0032": f"{-place[0]}\\{-place[1]}\\{place[2]}",
            "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": str(content.grid.spacing[2]),
        }  # fmt: skip
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(image)


def write_dicomdir(path):
    """A DICOM file that lists others."""

    def element(group, number, kind, value):
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, kind, len(value)) + value

    meta = element(2, 2, b"UI", b"1.2.840.10008.1.3.10") + element(2, 3, b"UI", b"1.2.3.9")
    meta += element(2, 16, b"UI", b"1.2.840.10008.1.2.1")
    meta = element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    path.write_bytes(bytes(128) + b"DICM" + meta + element(4, 0x1130, b"CS", b"SCANS"))


def test_one_bad_image_fails_alone(model, scan, tmp_path, capsys):
    bad = tmp_path / "bad.nrrd"
    bad.write_text("NRRD0004\nnonsense\n")
    assert segment(model, tmp_path / "out", bad, scan) == 1
    told = capsys.readouterr()
    assert "bad.nrrd" in told.err and "1 of 2 images failed" in told.err
    assert len(files(tmp_path / "out")) == 4
    assert segment(model, tmp_path / "none", bad, "--json") == 2
    assert "bad.nrrd" in json.loads(capsys.readouterr().out)["error"]
    assert files(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("inner\ntrouble"), "unexpected RuntimeError: inner trouble"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"), "out of GPU memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (InputError("no good"), "no good"),
    ],
)
@pytest.mark.parametrize("several", [True, False])
def test_whatever_fails_for_one_image_leaves_the_others(
    error, why, several, model, scan, tmp_path, monkeypatch, capsys
):
    real = segmenter.Segmenter.segment

    def broken(self, images, *arguments, **options):
        if images[0].grid.same_as(volume.read(scan).grid):
            raise error
        return real(self, images, *arguments, **options)

    monkeypatch.setattr(segmenter.Segmenter, "segment", broken)
    other = tmp_path / "other.nrrd"
    image = volume.read(scan)
    volume.write(other, volume.Volume(image.array[1:], volume.Grid((35, 30, 22), (3.0, 3.0, 2.5))))
    images = (scan, other) if several else (scan,)
    out = tmp_path / "out"
    assert segment(model, out, *images) == (1 if several else 2)
    told = capsys.readouterr().err
    assert f"scan: failed: {why}" in told
    assert "Traceback" not in told
    assert len(files(out)) == (4 if several else 0)
    segment(model, out, *images, "--debug")
    assert "Traceback" in capsys.readouterr().err


def test_images_that_are_not_there_count_and_the_others_are_segmented(
    model, scan, tmp_path, capsys
):
    (tmp_path / "empty").mkdir()
    missing = [tmp_path / "none.nrrd", tmp_path / "empty"]
    out = tmp_path / "out"
    assert segment(model, out, missing[0], scan, missing[1]) == 1
    told = capsys.readouterr()
    assert "none.nrrd: no such file" in told.err and "empty: the folder is empty" in told.err
    assert "2 of 3 images failed" in told.err and len(files(out)) == 4
    nothing = tmp_path / "nothing"
    assert segment(model, nothing, *missing, "--json") == 2
    told = capsys.readouterr()
    records = [json.loads(line) for line in told.out.splitlines()]
    assert [r["image"] for r in records] == [str(p) for p in missing]
    assert all(r["error"] for r in records) and not nothing.exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_counts_under_its_own_name(model, scan, tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.nrrd").symlink_to(scan)
    out = tmp_path / "out"
    assert segment(model, out, tmp_path / "first.nrrd", tmp_path / "second.nrrd") == 0
    assert {n.split("_")[0] for n in files(out)} == {"first", "second"}


def test_a_series_in_the_current_folder_is_named_after_it(model, scan, tmp_path, monkeypatch):
    series = tmp_path / "series9"
    series.mkdir()
    write_dicom(series, volume.read(scan))
    monkeypatch.chdir(series)
    assert segment(model, tmp_path / "out", ".") == 0
    assert "series9_labels.nrrd" in files(tmp_path / "out")


def test_what_an_earlier_run_left_is_gone_with_the_next(model, scan, tmp_path):
    two = tiny_model(tmp_path / "two", classes=3)
    out = tmp_path / "out"
    assert segment(two, out, scan) == 0
    precious = ["scan_sdf_mine.nrrd", "scan_uncertainty_2.nrrd", "scan_note.txt", "scan.nrrd",
                "other_sdf.nrrd", "scan_sdf_left-atrium.nii.gz"]  # fmt: skip
    for name in precious:  # made by someone else
        volume.write(out / name, volume.read(scan)) if "note" not in name else (
            (out / name).write_text("precious")
        )
    assert segment(two, out, scan, "--uncertainty-passes", "0") == 0
    left = ["scan_labels.nrrd", "scan_sdf_left-atrium.nrrd", "scan_sdf_right-atrium.nrrd"]
    assert files(out) == sorted(left + precious)
    assert segment(model, out, scan) == 0
    left = ["scan_labels.nrrd", "scan_sdf.nrrd", "scan_surface_error.nrrd",
            "scan_uncertainty.nrrd"]  # fmt: skip
    assert files(out) == sorted(left + precious)


def test_results_of_another_image_with_a_longer_name_stay(model, scan, tmp_path):
    longer = write_image(tmp_path / "scan_sdf_b.nrrd")
    out = tmp_path / "out"
    assert segment(model, out, longer) == 0
    assert segment(model, out, scan) == 0
    assert len(files(out)) == 8


def test_images_of_one_name_take_that_of_their_folder(model, scan, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    write_image(other / "scan.nrrd", seed=3)
    out = tmp_path / "out"
    assert segment(model, out, scan, scan, other / "scan.nrrd") == 0
    labels = [n for n in files(out) if n.endswith("_labels.nrrd")]
    assert labels == sorted(["elsewhere_scan_labels.nrrd", f"{scan.parent.name}_scan_labels.nrrd"])


def test_images_of_one_name_in_one_folder_are_refused(model, scan, tmp_path, capsys):
    for name in ("a.nrrd", "a.mha", "b.nrrd"):
        write_image(tmp_path / name)
    assert segment(model, tmp_path / "none", tmp_path / "a.nrrd", tmp_path / "a.mha") == 2
    assert "same name" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert segment(model, tmp_path / "out", tmp_path) == 1
    assert "2 of 3 images failed" in capsys.readouterr().err
    assert {n.split("_")[0] for n in files(tmp_path / "out")} == {"b"}


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_all_images_are_segmented_where_nobody_reads(stream, model, tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.nrrd")
    words = ["segment", "missing.nrrd", "a.nrrd", "b.nrrd", "--model", str(model.folder),
             "--output", "out", "--uncertainty-passes", "0", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "ugmcl_core", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    getattr(process, stream).close()
    setattr(process, stream, None)
    said, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert len(files(tmp_path / "out")) == 4
    assert "Broken" not in f"{said}{told}"


def test_interrupted_between_files_nothing_is_left(model, scan, tmp_path, monkeypatch, capsys):
    from ugmcl_core.inference import result_files

    real = result_files.volume.write

    def interrupted(path, *arguments, **options):
        if "uncertainty" in str(path):
            raise KeyboardInterrupt
        real(path, *arguments, **options)

    monkeypatch.setattr(result_files.volume, "write", interrupted)
    assert segment(model, tmp_path, scan) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "ugmcl: canceled"
    assert files(tmp_path) == []


def test_a_terminated_process_cleans_up(model, tmp_path):
    """SIGTERM in the middle of a long run: exit code 130 and no file."""
    rng = np.random.default_rng(0)
    big = volume.Volume(rng.random((200, 200, 120), np.float32), small_case()[0].grid)
    big = volume.Volume(big.array, volume.Grid((200, 200, 120), (1.5, 1.5, 1.5)))
    volume.write(tmp_path / "big.nrrd", big, compress=False)
    out = tmp_path / "out"
    words = ["segment", str(tmp_path / "big.nrrd"), "--model", str(model.folder), "--output",
             str(out), "--uncertainty-passes", "64", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "ugmcl_core", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    # Python ends by SIGINT where the interruption met code that it compiles, as imports do on a
    # busy machine: a shell says 130 of both
    assert process.returncode in (130, -signal.SIGINT), told
    assert told.count("canceled") == 1
    assert files(out) == []


def test_a_pipe_and_other_formats_beside_images_are_named_and_not_waited_for(
    model, scan, tmp_path, capsys
):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(scan, folder / "scan.nrrd")
    os.mkfifo(folder / "pipe.nrrd")
    os.mkfifo(folder / "pipe")
    (folder / "other.hdr").touch()
    (folder / "gone.nrrd").symlink_to(tmp_path / "nowhere")
    assert segment(model, tmp_path / "out", folder) == 0
    told = capsys.readouterr().err
    assert "not NRRD, NIfTI or MetaImage files (other.hdr, pipe.nrrd)" in told
    assert "gone.nrrd: the link leads nowhere" in told


def test_folders_that_lead_back_to_themselves_are_looked_into_once(model, scan, tmp_path):
    folder = tmp_path / "folder" / "inner"
    folder.mkdir(parents=True)
    shutil.copy(scan, folder / "scan.nrrd")
    for n in range(3):
        (folder.parent / f"again{n}").symlink_to(".")
    lines: list[str] = []
    found, wrong = find_images([str(folder.parent)], lines.append)
    assert list(found) == ["scan"] and not wrong and not lines


def test_a_name_that_is_no_text_is_said_to_be_none(scan, tmp_path):
    path = tmp_path / os.fsdecode(b"bad\xff.nrrd")
    shutil.copy(scan, path)
    with pytest.raises(InputError, match="not in UTF-8; rename it"):
        guarded.read(path)
