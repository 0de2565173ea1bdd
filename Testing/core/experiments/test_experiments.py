"""`ugmcl experiment`, whole: trains, skips, resumes, shares, splits, adopts, shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from experiment_samples import TINY, write_la

from ugmcl_core.__main__ import main
from ugmcl_core.files import held
from ugmcl_core.training import checkpoint, profiles, trainer

pytestmark = pytest.mark.usefixtures("longer_at_equal_time")
ROWS = "supervised,ugmcl"
SUPERVISED, UGMCL = "supervised_2of5_tiny-4_s2022_", "ugmcl_sharpness-50_2of5_tiny-4_s2022_"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("la")
    write_la(folder)
    return folder


def experiment(data, output, *more, name="table3", only=ROWS):
    words = ["experiment", name, "--data", data, "--output", output, "--profile", "tiny"]
    words += ["--device", "cpu", *(["--only", only] if only else []), *more]
    return main([str(w) for w in words])


@pytest.fixture(scope="module")
def done(data, tmp_path_factory, longer_at_equal_time):
    """The output of table3's supervised and UG-MCL rows."""
    output = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "tiny", TINY)
        assert experiment(data, output) == 0
    return output


@pytest.fixture
def copy(done, tmp_path):
    """A copy of ``done`` that a test may change."""
    return Path(shutil.copytree(done, tmp_path / "runs"))


def trainings(output: Path) -> dict[str, float]:
    """The folders of trainings and when their model was made."""
    return {p.parent.parent.name: p.stat().st_mtime_ns for p in output.glob("*/model/model.json")}


def record_of(output: Path, start: str) -> dict:
    (path,) = output.glob(f"{start}*/record.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_trainings_records_and_table(done, data):
    names = trainings(done)
    # supervised, UG-MCL, the upper bound, and supervised at equal time (its iterations differ)
    assert [sum(n.startswith(s) for n in names) for s in (SUPERVISED, UGMCL)] == [1, 1]
    assert sum(n.startswith("supervised_5of5_tiny-4_") for n in names) == 1
    assert len(names) == 4
    record = record_of(done, UGMCL)
    assert "float" in record["machine"] and "cores" in record["machine"]  # what times depend on
    assert record["method"] == "ugmcl" and record["options"]["beta"] == 0.75
    assert record["seed"] == 2022 and record["device"].startswith("CPU")
    assert record["profile"]["iterations"] == 4 and record["adopted"] is None
    assert record["time"]["seconds"] == pytest.approx(
        4 * record["time"]["seconds_per_iteration"], rel=1e-3, abs=1e-3  # both are rounded
    )
    assert record["labeled"] == ["phantom-000", "phantom-001"]
    assert record["unlabeled"] == ["phantom-002", "phantom-003", "phantom-004"]
    scores = record["scores"]["dev"]
    assert scores["cases"] == ["phantom-005", "phantom-006"]
    assert [row["case"] for row in scores["rows"]] == scores["cases"]
    for row in scores["rows"]:
        for key in ("dice", "jaccard", "asd", "hd95", "asd_mm", "hd95_mm"):
            assert key in row and key in row["largest"]
    folder = next(done.glob(f"{UGMCL}*"))
    assert not (folder / checkpoint.NAME).exists()
    assert len(list((folder / "predictions" / "dev").iterdir())) == 2
    text = (done / "rendered" / "table3-tiny-4-dev.md").read_text(encoding="utf-8")
    assert "| UG-MCL | 2 of 5 | 1 |" in text and "| 90.16 | 82.18 | 1.98 | 6.50 |" in text
    assert "no ranking" in text
    missing = text.split("## Not there yet", 1)[1]
    assert "MT: seed 2022" in missing and "UG-MCL: seed" not in missing
    assert len(list((done / "rendered" / "records").glob("*.json"))) == 4


def test_dice_of_the_record_is_that_of_ugmcl_evaluate(done, data, capsys):
    folder = next(done.glob(f"{SUPERVISED}*"))
    words = ["evaluate", "--predictions", folder / "predictions" / "dev",
             "--references", data / "labels", "--cases", data / "dev-2.txt", "--json"]  # fmt: skip
    capsys.readouterr()
    assert main([str(w) for w in words]) == 0
    evaluated = json.loads(capsys.readouterr().out)["cases"]
    rows = record_of(done, SUPERVISED)["scores"]["dev"]["rows"]
    for row, other in zip(rows, evaluated, strict=True):
        for key in ("dice", "jaccard", "asd", "hd95", "asd_mm", "hd95_mm"):
            assert row[key] == pytest.approx(other[key]), key


def test_what_was_not_begun_is_not_said_to_start_again(done):
    logs = [*done.glob("*/log.jsonl")]
    assert len(logs) == 4
    assert not any("starts again" in log.read_text(encoding="utf-8") for log in logs)


def test_the_same_command_again_does_nothing(copy, data, capsys):
    before = trainings(copy)
    assert experiment(data, copy) == 0
    assert trainings(copy) == before
    assert capsys.readouterr().err.count(": done\n") == 4


def test_records_of_a_report_count_as_done(copy, data, tmp_path, capsys):
    """Also of the training at equal time, which the records of others make known."""
    report, other = copy / "rendered" / "records", tmp_path / "other"
    assert experiment(data, copy, "--render") == 0
    assert experiment(data, other, "--records", report, "--render") == 0
    assert "rendered/records: 4 records taken over" in capsys.readouterr().err
    assert trainings(other) == {}
    tables = [f / "rendered" / "table3-tiny-4-dev.md" for f in (copy, other)]
    assert tables[0].read_text(encoding="utf-8") == tables[1].read_text(encoding="utf-8")
    assert experiment(data, other, "--records", report) == 0
    told = capsys.readouterr().err
    assert "0 records taken over" in told and told.count(": done\n") == 4
    assert trainings(other) == {}, "nothing is trained"
    assert experiment(data, other, "--score", "report") == 1
    assert "there is no model folder" in capsys.readouterr().err
    assert experiment(data, other, "--records", tmp_path / "no", "--list") == 2
    assert "no such folder; give the folder records/ of a report" in capsys.readouterr().err


def test_only_trains_a_part_and_shows_all_that_is_there(copy, data):
    table = copy / "rendered" / "table3-tiny-4-dev.md"
    assert experiment(data, copy, only="UG-MCL") == 0
    text = table.read_text(encoding="utf-8")
    assert "| Supervised | 2 of 5 |" in text and "- MT: seed 2022" in text
    assert experiment(data, copy, "--render", only="UG-MCL") == 0
    text = table.read_text(encoding="utf-8")
    assert "| UG-MCL | 2 of 5 |" in text and "| Supervised |" not in text


def test_experiments_share_trainings(copy, data, capsys):
    before = trainings(copy)
    assert experiment(data, copy, "--list", name="table1", only="ugmcl") == 0
    listed = capsys.readouterr().out.splitlines()
    states = {line.split(",")[0]: "done" in line for line in listed}
    assert states == {
        "L_seg": False,
        "L_seg + L_itc": False,
        "L_seg + L_dis + L_itc": False,
        "L_seg + L_dis + L_ctc": False,
        "UG-MCL (all terms)": True,
    }
    assert trainings(copy) == before


def test_another_case_set_is_scored_without_training(copy, data, capsys):
    before = trainings(copy)
    assert experiment(data, copy, "--score", "report") == 0
    assert trainings(copy) == before
    assert "settings should be fixed by now" in capsys.readouterr().err
    scores = record_of(copy, UGMCL)["scores"]
    assert scores["report"]["cases"] == ["phantom-007", "phantom-008"]
    assert set(scores) == {"dev", "report"}
    assert (copy / "rendered" / "table3-tiny-4-report.md").exists()
    assert experiment(data, copy, "--paper-stride") == 0
    scores = record_of(copy, UGMCL)["scores"]
    assert set(scores) == {"dev", "report", "dev-paper-stride"}
    assert trainings(copy) == before


def test_an_interrupted_training_goes_on(data, tmp_path, monkeypatch, done, capsys):
    """Killed after two iterations with checkpoints each one: goes on, and ends as if it had not
    been interrupted."""
    import functools

    from ugmcl_core.experiments import running

    settings = functools.partial(running.TrainingSettings, checkpoint_every=1)
    monkeypatch.setattr(running, "TrainingSettings", settings)
    step = trainer.Trainer.step

    def killed(self, at, batch):
        if at.index == 2:
            raise KeyboardInterrupt
        return step(self, at, batch)

    monkeypatch.setattr(trainer.Trainer, "step", killed)
    assert experiment(data, tmp_path, only="supervised") == 130
    assert experiment(data, tmp_path, "--list", only="supervised") == 0
    assert "Supervised, seed 2022: 2 of 4 iterations" in capsys.readouterr().out
    monkeypatch.setattr(trainer.Trainer, "step", step)
    assert experiment(data, tmp_path, only="Supervised") == 0
    weights = "model/weights.safetensors"
    (resumed,) = tmp_path.glob(f"{SUPERVISED}*/{weights}")
    (straight,) = done.glob(f"{SUPERVISED}*/{weights}")
    assert resumed.read_bytes() == straight.read_bytes()
    (log,) = tmp_path.glob(f"{SUPERVISED}*/log.jsonl")
    told = [e for e in map(json.loads, log.read_text().splitlines()) if e["event"] == "progress"]
    assert told[-1]["since"] >= 2  # the time of iterations is that of those that were done


def test_a_training_that_fails_does_not_stop_the_others(data, tmp_path, capsys):
    wrong = tmp_path / "la"
    shutil.copytree(data, wrong)
    (wrong / "images" / "phantom-004.nrrd").write_bytes(b"NRRD0004\nnot an image")
    assert experiment(wrong, tmp_path / "out", only="ugmcl,Supervised") == 1
    told = capsys.readouterr()
    assert "failed:" in told.err and "phantom-004" in told.err
    (table,) = (tmp_path / "out" / "rendered").glob("*.md")
    text = table.read_text(encoding="utf-8")
    assert "| Supervised | 2 of 5 |" in text
    assert "- UG-MCL: seed 2022" in text.split("## Not there yet", 1)[1]


def test_a_row_that_waits_for_others_is_shown_as_not_there(data, tmp_path, capsys):
    row = "Supervised (equal time)"
    assert experiment(data, tmp_path / "out", "--render", only=row) == 0
    (table,) = (tmp_path / "out" / "rendered").glob("*.md")
    assert capsys.readouterr().out == f"{table}\n"
    text = table.read_text(encoding="utf-8")
    assert "Profile tiny, 4 iterations" in text
    assert f"- {row}: seed 2022" in text.split("## Not there yet", 1)[1]


def test_another_process_at_a_training_is_left_alone(data, copy, capsys):
    folder = next(copy.glob(f"{UGMCL}*"))
    (folder / "record.json").unlink()
    with held(folder):
        assert experiment(data, copy, only="UG-MCL") == 0
    assert "another process is working on it" in capsys.readouterr().err
    assert not (folder / "record.json").exists()


def test_a_record_of_other_settings_is_refused(data, copy, capsys):
    path = next(copy.glob(f"{UGMCL}*/record.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["options"]["beta"] = 0.5
    path.write_text(json.dumps(record), encoding="utf-8")
    assert experiment(data, copy, "--render") == 2
    told = capsys.readouterr().err
    assert "different settings (method.beta)" in told and len(told.splitlines()) == 1


def test_rendering_with_nothing_there(data, tmp_path, capsys):
    assert experiment(data, tmp_path, "--render", only="") == 0
    (table,) = (tmp_path / "rendered").glob("*.md")
    text = table.read_text(encoding="utf-8")
    assert "Not there yet" in text and "## Results" not in text
    assert not trainings(tmp_path)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--only", "burn"], "no row 'burn'"),
        (["--profile", "huge"], "unknown profile"),
        (["--layout", "brats"], "HGG/CASE"),
        (["--labeled-list", "LA/dev-2.txt"], "both"),
    ],
)
def test_bad_input_is_one_line(more, told, data, tmp_path, capsys):
    more = [str(data / w[3:]) if w.startswith("LA/") else w for w in more]
    assert experiment(data, tmp_path, *more) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0]


def test_torchrun_is_refused(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert experiment(data, tmp_path) == 2
    assert "without torchrun" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "x"],
        ["--seeds", "1,1"], ["--seeds", "-1"], ["--score", "all"],
    ],
)  # fmt: skip
def test_bad_usage(words, data, tmp_path):
    with pytest.raises(SystemExit) as end:
        experiment(data, tmp_path, *words)
    assert end.value.code == 2
