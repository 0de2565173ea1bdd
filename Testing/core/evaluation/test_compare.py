"""`ugmcl evaluate`: what belongs together, its numbers, and its table."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from samples import ball, contents, on_grid

from ugmcl_core.__main__ import main
from ugmcl_core.data import volume
from ugmcl_core.errors import InputError
from ugmcl_core.evaluation import compare, metrics
from ugmcl_core.nn.level_sets import signed_distance

SPACING = (1.0, 1.5, 2.0)


@pytest.fixture
def folders(tmp_path):
    """Two cases with all files; `b` is segmented worse and with more uncertainty."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    predictions.mkdir()
    references.mkdir()
    for name, shift in (("a", 1), ("b", 3)):
        truth = ball()
        found = ball(center=(10 + shift, 9, 8))
        write(references / f"{name}.nrrd", truth.astype(np.uint8))
        write(predictions / f"{name}_labels.nrrd", found.astype(np.uint8))
        write(predictions / f"{name}_sdf.nrrd", signed_distance(truth, SPACING) + 0.25)
        unsure = shift / 10 * (found != truth)
        write(predictions / f"{name}_uncertainty.nrrd", unsure.astype(np.float32))
    return predictions, references


def write(path, array, **options):
    volume.write(path, on_grid(array, SPACING), **options)


def evaluate(folders, *more):
    predictions, references = map(str, folders)
    return main(["evaluate", "--predictions", predictions, "--references", references, *more])


def test_numbers_of_a_case(folders):
    cases, missing = compare.find_cases(*folders)
    assert [c.name for c in cases] == ["a", "b"] and not missing
    found = compare.evaluate(cases[1])
    (structure,) = found.structures
    prediction, truth = ball(center=(13, 9, 8)), ball()
    assert structure.value == 1
    assert structure.scores == metrics.score(prediction, truth, SPACING)
    assert structure.sdf_dice == pytest.approx(
        metrics.dice(signed_distance(truth, SPACING) < -0.25, truth)
    )
    assert structure.sdf_mae_mm == pytest.approx(0.25, abs=1e-5)
    assert found.auroc == 1.0
    band = np.abs(signed_distance(prediction, SPACING)) <= 5
    assert found.uncertainty == pytest.approx(0.3 * (prediction != truth)[band].mean())


def test_uncertainty_is_compared_with_dice_over_cases(folders):
    results = [compare.evaluate(c) for c in compare.find_cases(*folders)[0]]
    assert compare.totals(results)["spearman"] == -1.0


def test_table(folders, capsys):
    assert evaluate(folders) == 0
    shown = capsys.readouterr().out
    for word in ("Dice %", "95HD vox", "ASD mm", "SDF MAE mm", "AUROC", "mean ± sd", "2 cases"):
        assert word in shown
    dice = [100 * metrics.dice(ball(center=(10 + s, 9, 8)), ball()) for s in (1, 3)]
    assert f"{np.mean(dice):.2f} ± {np.std(dice, ddof=1):.2f}" in shown
    assert "-1.000" in shown


def test_json_and_csv_agree(folders, capsys, tmp_path):
    assert evaluate(folders, "--json", "--csv", str(tmp_path / "t.csv")) == 0
    told = json.loads(capsys.readouterr().out)
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["case"] for r in rows] == ["a", "b"]
    for row, case in zip(rows, told["cases"], strict=True):
        for key in ("dice", "asd", "hd95_mm", "sdf_dice", "auroc"):
            assert float(row[key]) == pytest.approx(case[key])
    assert told["summary"]["1"]["dice"]["count"] == 2


def test_no_cell_of_a_csv_is_a_formula(folders, tmp_path):
    for folder in folders:
        for path in list(folder.iterdir()):
            if path.name.startswith("a"):
                path.rename(path.with_name(path.name.replace("a", "=cmd()", 1)))
    assert evaluate(folders, "--csv", str(tmp_path / "t.csv")) == 0
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["case"] for r in rows] == ["'=cmd()", "b"]


def test_plain_names_and_only_labels(folders, capsys):
    predictions, _ = folders
    for path in predictions.iterdir():
        if path.name.endswith("_labels.nrrd"):
            path.rename(path.with_name(path.name.replace("_labels", "")))
        else:
            path.unlink()
    assert evaluate(folders) == 0
    shown = capsys.readouterr().out
    assert "AUROC" not in shown and "SDF" not in shown


def test_missing_cases_are_told(folders, capsys, tmp_path):
    (tmp_path / "list.txt").write_text("a\n# comment\nghost\n")
    assert evaluate(folders, "--cases", str(tmp_path / "list.txt")) == 1
    told = capsys.readouterr()
    assert "ghost" in told.err
    assert "1 case" in told.out


def test_a_missing_prediction_is_no_success(folders, capsys, tmp_path):
    (folders[0] / "b_labels.nrrd").unlink()
    assert evaluate(folders) == 1
    told = capsys.readouterr()
    assert "b: there is no prediction" in told.err
    assert "1 case" in told.out and "not measured: 1" in told.out
    assert evaluate(folders, "--json") == 1
    assert json.loads(capsys.readouterr().out)["problems"] == ["b: there is no prediction"]
    (tmp_path / "list.txt").write_text("a\n")
    assert evaluate(folders, "--cases", str(tmp_path / "list.txt")) == 0
    assert capsys.readouterr().err == ""


def test_results_beside_the_references_are_no_references(folders):
    for path in folders[0].iterdir():
        path.rename(folders[1] / path.name)
    assert evaluate((folders[1], folders[1])) == 0


def test_two_files_of_one_name_are_refused(folders, capsys):
    write(folders[1] / "a.nii.gz", ball().astype(np.uint8))
    assert evaluate(folders) == 2
    told = capsys.readouterr().err
    assert "a.nii.gz" in told and "a.nrrd" in told and len(told.splitlines()) == 1


def test_an_empty_prediction_is_counted_and_not_averaged_away(folders, capsys):
    write(folders[0] / "b_labels.nrrd", np.zeros((20, 18, 16), np.uint8))
    assert evaluate(folders, "--json") == 0
    summary = json.loads(capsys.readouterr().out)["summary"]["1"]
    assert (summary["asd"]["count"], summary["asd"]["missing"]) == (1, 1)
    assert summary["dice"]["count"] == 2, "an empty prediction has Dice 0"
    assert evaluate(folders) == 0
    assert "no value (left out of the mean): ASD vox in 1" in capsys.readouterr().out


def test_several_labels(tmp_path):
    truth = ball(radius=6.0).astype(np.uint8)
    truth[12:][truth[12:] > 0] = 2
    for folder in ("p", "r"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.nrrd", truth)
    for value, word in ((1, "one"), (2, "two")):
        write(
            tmp_path / "p" / f"x_sdf_{word}.nrrd",
            signed_distance(truth == value, SPACING),
            notes={"ugmcl_class_value": str(value), "ugmcl_scale_mm": "10"},
        )
    (case,), _ = compare.find_cases(tmp_path / "p", tmp_path / "r")
    found = compare.evaluate(case)
    assert [s.value for s in found.structures] == [1, 2]
    for structure in found.structures:
        assert structure.scores.dice == structure.sdf_dice == 1
        assert structure.sdf_mae_mm == pytest.approx(0, abs=1e-5)
    assert math.isnan(found.auroc)


def test_a_label_absent_from_a_case_is_missing_there():
    def result(name, *values):
        scores = metrics.Scores(0.5, 0.3, 1, 2, 1, 2)
        return compare.CaseResult(name, tuple(compare.StructureResult(v, scores) for v in values))

    results = [result("a", 1, 2), result("b", 1)]
    assert len(compare.rows(results)) == 4
    dice = compare.totals(results)["summary"][2]["dice"]
    assert (dice["count"], dice["missing"]) == (1, 1)


def test_clamped_sdf_is_compared_with_the_clamped_distance(tmp_path):
    truth = ball()
    for folder in ("p", "r"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.nrrd", truth.astype(np.uint8))
    clamped = np.clip(signed_distance(truth, SPACING), -2, 2)
    write(tmp_path / "p" / "x_sdf.nrrd", clamped, notes={"ugmcl_scale_mm": "2"})
    (case,), _ = compare.find_cases(tmp_path / "p", tmp_path / "r")
    assert compare.evaluate(case).structures[0].sdf_mae_mm == pytest.approx(0, abs=1e-6)


def test_a_grid_that_was_written_with_few_digits_is_the_same(folders):
    truth = volume.read(folders[1] / "a.nrrd")
    rounded = replace(truth.grid, origin=tuple(v + 0.01 for v in truth.grid.origin))
    found = volume.Volume(truth.array, rounded)
    volume.write(folders[0] / "a_labels.nrrd", found)
    (case, *_), _ = compare.find_cases(*folders)
    assert compare.evaluate(case).structures[0].scores.dice == 1.0


def test_another_grid_is_refused(folders, capsys):
    volume.write(folders[0] / "a_labels.nrrd", on_grid(ball().astype(np.uint8)))
    with pytest.raises(InputError, match="different grid"):
        compare.evaluate(compare.find_cases(*folders)[0][0])
    assert evaluate(folders) == 1
    assert "different grid" in capsys.readouterr().err


def test_nothing_in_common(folders, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert evaluate((tmp_path / "empty", folders[1])) == 2
    assert evaluate((tmp_path / "nowhere", folders[1])) == 2
    assert all(line.startswith("ugmcl: ") for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("name", ["none/t.csv", "folder"])
def test_a_table_that_cannot_be_written(name, folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "evaluate", None)  # it is told before anything is measured
    (tmp_path / "folder").mkdir()
    assert evaluate(folders, "--csv", str(tmp_path / name)) == 2
    assert f"{name}: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--errors", "--csv"])
@pytest.mark.parametrize("name", ["found.nrrd", "truth.nrrd", "link.nrrd"])
def test_the_files_compared_are_not_overwritten(option, name, tmp_path, capsys):
    for n, stem in enumerate(("found", "truth")):
        write(tmp_path / f"{stem}.nrrd", ball(radius=4 + n).astype(np.uint8))
    if name == "link.nrrd":
        (tmp_path / name).hardlink_to(tmp_path / "truth.nrrd")
    before = contents(tmp_path)
    files = tmp_path / "found.nrrd", tmp_path / "truth.nrrd"
    assert evaluate(files, option, str(tmp_path / name)) == 2
    assert "one of the files to compare" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_two_files_and_where_they_differ(tmp_path, capsys):
    truth = np.zeros((6, 5, 4), np.uint8)
    found = truth.copy()
    truth[1:3, 1:3, 1:3], found[2:4, 1:3, 1:3] = 1, 1
    truth[4, 4, 3], found[4, 4, 3] = 1, 2
    truth[0, 0, 0], found[5, 4, 0] = 7, 7
    write(tmp_path / "truth.nrrd", truth)
    write(tmp_path / "scan_labels.nrrd", found)
    files = tmp_path / "scan_labels.nrrd", tmp_path / "truth.nrrd"
    assert evaluate(files, "--errors", str(tmp_path / "errors.nrrd"), "--json") == 0
    rows = {row["label"]: row for row in json.loads(capsys.readouterr().out)["cases"]}
    assert rows[1]["dice"] == pytest.approx(2 * 4 / (8 + 9)) and rows[7]["dice"] == 0
    errors = volume.read(tmp_path / "errors.nrrd")
    expected = np.zeros(truth.shape, np.uint8)
    expected[3, 1:3, 1:3], expected[5, 4, 0] = 1, 1
    expected[1, 1:3, 1:3], expected[0, 0, 0] = 2, 2
    expected[4, 4, 3] = 3
    assert np.array_equal(errors.array, expected)
    assert errors.grid.same_as(volume.read(files[1]).grid)
    only = compare.error_map(found, truth, [1])
    assert (only[4, 4, 3], only[0, 0, 0], only[5, 4, 0], only[1, 1, 1]) == (2, 0, 0, 2)


def test_what_two_files_cannot_be_asked(folders, tmp_path, capsys):
    write(tmp_path / "x.nrrd", ball().astype(np.uint8))
    one = tmp_path / "x.nrrd"
    (tmp_path / "list.txt").write_text("a")
    for places, more, why in (
        ((one, tmp_path / "none.nrrd"), (), "is not a file"),
        ((one, folders[1]), (), "is not a file"),
        ((one, one), ("--cases", str(tmp_path / "list.txt")), "give it with two folders"),
        (folders, ("--errors", str(tmp_path / "e.nrrd")), "needs two files"),
    ):
        assert evaluate(places, *more) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "e.nrrd").exists()


def test_labels_that_may_be_numbered_differently_are_pointed_out(folders, capsys):
    predictions, references = folders
    for folder, own in ((predictions, 2), (references, 4)):
        for path in folder.glob("*.nrrd"):
            if path.stem.endswith(("_sdf", "_uncertainty")):
                continue
            found = volume.read_labels(path)
            found.array[:2, :2, :2] = own
            volume.write(path, found)
    assert evaluate(folders) == 0
    told = capsys.readouterr().err
    assert "2 occurs only in the predictions and 4 only in the references" in told


def test_labels_that_have_no_value_in_common_are_refused_with_both(folders, capsys, tmp_path):
    _, references = folders
    for path in references.iterdir():
        found = volume.read_labels(path)
        volume.write(path, replace(found, array=found.array * 255))
    assert evaluate(folders) == 2
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 1
    assert "no label in common: 1 in the predictions, 255 in the references" in told.err
    with pytest.raises(InputError, match="no label in common"):
        compare.compare(folders[0] / "a_labels.nrrd", references / "a.nrrd")
    compare.compare(folders[0] / "a_labels.nrrd", references / "a.nrrd", [1])  # as was chosen


def test_one_case_without_a_common_value_is_measured(folders, capsys):
    """The model found another class there: that is what is to be measured."""
    found = volume.read_labels(folders[1] / "a.nrrd")
    volume.write(folders[1] / "a.nrrd", replace(found, array=found.array * 2))
    assert evaluate(folders, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["cases"]
    assert {(r["case"], r["label"]) for r in rows} == {("a", 1), ("a", 2), ("b", 1), ("b", 2)}


def test_what_has_no_reference_or_is_no_label_map_is_named(folders, capsys):
    references = folders[1]
    (references / "a.nrrd").unlink()
    (references / "gone.nrrd").symlink_to(references / "nowhere")
    evaluate(folders)
    told = capsys.readouterr().err
    assert "no reference for a; left out" in told
    assert "gone.nrrd: the link leads nowhere" in told
