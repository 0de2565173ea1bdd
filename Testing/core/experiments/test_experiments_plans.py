"""Descriptions, plans, shards, records' times, and trainings taken over from `ugmcl train`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from experiment_samples import TINY, write_la

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.experiments import datasets, planning, records, running, scoring
from ugmcl_core.experiments import running as adoption
from ugmcl_core.experiments.paper import (
    EXPERIMENTS,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    Row,
    check_layout,
    only,
)
from ugmcl_core.methods import UGMCL, Supervised
from ugmcl_core.training import profiles


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("la")
    write_la(place, labeled=4, unlabeled=8, held=2)
    return place


@pytest.fixture(scope="module")
def dataset(folder):
    return datasets.find(folder)


def never(reference, other):
    return None


def plan(rows, dataset, seeds=(1,), timed=never, name="compact", iterations=600):
    profile = planning.profile_for(dataset, name, iterations)
    replicates = [planning.Replicate(*r) if isinstance(r, tuple) else planning.Replicate(r)
                  for r in seeds]  # fmt: skip
    return planning.plan(rows, dataset, profile, replicates, timed)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_planned(name, dataset, tmp_path):
    rows = EXPERIMENTS[name].rows
    if name == "few-labels":  # which needs 16 labels
        write_la(tmp_path, labeled=4, unlabeled=13)
        dataset = datasets.find(tmp_path)
    planned = plan(rows, dataset)
    assert len(planned) == len(rows)
    folders = [p.training.folder for p in planned if p.training]
    # figure3: the thresholds fixed at 1 and ramped from 1
    shared = {"figure3": 1}.get(name, 0)
    assert len(folders) == len(set(folders)) + shared, "two rows are the same training"
    for group in {r.group for r in rows}:
        references = [r for r in rows if r.group == group and r.reference]
        expected = ["dual-task" if group else ""] if name == "few-labels" else ["ugmcl"]
        assert [r.method for r in references] == [m for m in expected if m], group
    assert len({r.label for r in rows}) == len(rows)


def test_amounts_of_labels_are_the_papers(dataset):
    """5, 10, 15, 20, 30, 50 % of 80 when the standard 16 are 20 %: here of a standard 4."""
    shares = {r.x: r.share for r in EXPERIMENTS["figure4"].rows}
    assert {x: 16 * s for x, s in shares.items()} == {5: 4, 10: 8, 15: 12, 20: 16, 30: 24, 50: 40}
    assert [dataset.amount(s) for s in (0.25, 1.0, 2.5, None)] == [1, 4, 10, 12]
    with pytest.raises(InputError, match="13 labeled training cases"):
        dataset.amount(3.25)
    assert [dataset.has_labels_for(s) for s in (None, 3.0, 3.25)] == [True, True, False]


def test_few_labels_are_as_many_whatever_is_listed(tmp_path):
    write_la(tmp_path, labeled=17, unlabeled=1)
    planned = plan(EXPERIMENTS["few-labels"].rows, datasets.find(tmp_path))
    assert {p.row.x: len(p.training.labeled) for p in planned} == {
        2: 2, 4: 4, 8: 8, 16: 16, 0: 18
    }  # fmt: skip


def test_draws_choose_other_labels_nested_and_only_where_there_is_a_choice(dataset):
    rows = [Row("few", "ugmcl", share=0.25), Row("some", "ugmcl"), Row("all", "ugmcl", share=None)]
    planned = plan(rows, dataset, seeds=((1, 0), (1, 1), (1, 2)))
    chosen = {(p.row.label, p.replicate.draw): p.training.labeled for p in planned}
    assert chosen["some", 0] == dataset.training[: dataset.standard]
    assert len({chosen["some", draw] for draw in (0, 1, 2)}) == 3
    for draw in (0, 1, 2):
        few, some = chosen["few", draw], chosen["some", draw]
        assert few == some[: len(few)] and len(some) == dataset.standard
    assert [draw for label, draw in chosen if label == "all"] == [0]


def test_draws_choose_from_a_list_of_labeled_cases_first(dataset):
    listed = dataclasses.replace(dataset, listed=dataset.standard)
    first = set(dataset.training[: dataset.standard])
    for draw in (1, 2, 3):
        few, more = (listed.split(share, draw)[0] for share in (0.5, 2.0))
        assert set(few) < first == set(more[: dataset.standard]) and len(few) == 2
    assert len({listed.split(0.5, draw)[0] for draw in (1, 2, 3)}) > 1
    assert listed.split(0.5) == dataset.split(0.5)


def test_experiments_share_what_is_the_same_training(dataset):
    def folders(experiment):
        return {
            p.row.label: p.training.folder for p in plan(experiment.rows, dataset) if p.training
        }

    first, second, third = folders(TABLE_1), folders(TABLE_2), folders(TABLE_3)
    assert first["UG-MCL (all terms)"] == second["β = 0.75"] == third["UG-MCL"]
    assert first["L_seg + L_dis"] == third["Dual-task supervised"]
    assert second["β = 0.5"] != third["UG-MCL"]


def test_k_fits_the_level_sets_of_the_profile(dataset):
    """1500 belongs to the published level sets; 10 mm a unit get 5 per mm."""
    rows = [Row(name, name) for name in ("ugmcl", "dtc", "dtml", "ugmcl-official", "ugmcl-plus")]
    for profile, expected in (("compact", {50.0}), ("coarse", {50.0}), ("paper", {1500.0, 50.0})):
        methods = [p.training.method for p in plan(rows, dataset, name=profile)]
        assert {m.sharpness for m in methods} == expected, profile
    own = Row("x", "ugmcl", (("sharpness", 20.0),))
    assert plan([own], dataset)[0].training.method.sharpness == 20.0


def test_rows_of_table_1_differ_in_their_terms_alone(dataset):
    methods = [p.training.method for p in plan(TABLE_1.rows, dataset)]
    assert [m.name for m in methods].count("dual-task") == 1
    others = [m for m in methods if m.name == "ugmcl"]
    terms = ("distance", "intra", "cross")
    assert len({dataclasses.replace(m, **dict.fromkeys(terms, True)) for m in others}) == 1
    assert len({tuple(getattr(m, t) for t in terms) for m in others}) == 5


def test_data_of_another_kind_are_refused():
    with pytest.raises(InputError, match="layout brats or brats-4, and this is la"):
        check_layout(EXPERIMENTS["table4"], "la")
    with pytest.raises(InputError, match=r"table3 .* la or la-h5, and this is brats"):
        check_layout(TABLE_3, "brats")
    check_layout(EXPERIMENTS["table4"], "folder")


def test_a_folder_depends_on_all_that_defines_a_training(dataset):
    base = plan([Row("x", "ugmcl")], dataset)[0].training
    others = [
        plan([Row("x", "ugmcl", (("beta", 0.5),))], dataset)[0].training,
        plan([Row("x", "dual-task")], dataset)[0].training,
        plan([Row("x", "ugmcl", share=0.5)], dataset)[0].training,
        plan([Row("x", "ugmcl")], dataset, seeds=(2,))[0].training,
        plan([Row("x", "ugmcl")], dataset, iterations=601)[0].training,
        plan([Row("x", "ugmcl")], dataset, name="paper")[0].training,
        dataclasses.replace(base, labeled=base.labeled[::-1]),
        dataclasses.replace(base, layout="folder"),
    ]
    assert len({t.folder for t in [base, *others]}) == 1 + len(others)
    same = plan([Row("y", "ugmcl", (("beta", 0.75),))], dataset)[0].training
    assert same.folder == base.folder


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shards_are_disjoint_and_cover(count, dataset):
    planned = plan(TABLE_3.rows, dataset, (1, 2), lambda reference, other: 1500)
    everything = {p.training.folder for p in planned}
    parts = [{t.folder for t in planning.shard(planned, n, count)} for n in range(1, count + 1)]
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)


def test_shards_stay_when_a_waiting_training_becomes_known(dataset):
    waiting = plan(TABLE_3.rows, dataset, (1,))
    known = plan(TABLE_3.rows, dataset, (1,), lambda reference, other: 1500)
    for number in (1, 2, 3):
        before = {t.folder for t in planning.shard(waiting, number, 3)}
        after = {t.folder for t in planning.shard(known, number, 3)}
        assert before <= after


def test_equal_time_waits_and_then_has_the_iterations_that_fit(dataset):
    row = next(r for r in TABLE_3.rows if r.equal_time)
    (item,) = plan([row], dataset)
    assert item.training is None
    assert [t.method.name for t in item.waits_for] == ["ugmcl", "supervised"]
    assert {t.profile.iterations for t in item.waits_for} == {600}
    (item,) = plan([row], dataset, timed=lambda reference, other: 1560)
    assert item.training.profile.iterations == 1560
    assert item.training.profile.warmup == round(700 * 1560 / 2400)  # the same course, longer


def test_a_training_at_equal_time_is_the_same_whichever_seeds_are_planned_with_it(dataset):
    row = next(r for r in TABLE_3.rows if r.equal_time)
    timed = {1: 1560, 2: 1480}

    def by_seed(reference, other):
        assert reference.seed == other.seed
        return timed[other.seed]

    both = [item.training for item in plan([row], dataset, (1, 2), by_seed)]
    assert [t.profile.iterations for t in both] == [1560, 1480]
    assert [item.training for item in plan([row], dataset, (2,), by_seed)] == both[1:]


def test_iterations_in_time(dataset, tmp_path):
    place = running.Workplace(tmp_path, dataset, scoring.Scoring())
    (item,) = plan([next(r for r in TABLE_3.rows if r.equal_time)], dataset)
    for training, seconds in zip(item.waits_for, (4.3, 1.65), strict=True):
        assert running.iterations_in_time(place, *item.waits_for) is None
        log = tmp_path / "log.jsonl"
        events = [{"event": "progress", "step": n, "speed": 1 / seconds} for n in (300, 600)]
        log.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
        records.write(place.folder(training), records.new(training, "cpu", log))
    found = running.iterations_in_time(place, *item.waits_for)
    assert found == 1560 and type(found) is int  # 600 * 4.3 / 1.65 = 1563.6; part of a name


def test_wall_time_over_resumptions():
    def progress(since, step, speed):
        return json.dumps({"event": "progress", "since": since, "step": step, "speed": speed})

    lines = [
        progress(0, 1, 0.5),  # 2 s for the first iteration
        progress(1, 11, 2.0),  # 5 s for ten
        json.dumps({"event": "stopped", "step": 12}),  # one more, not reported
        progress(12, 16, 4.0),  # 1 s for four
        progress(16, 24, 2.0),  # 4 s for eight, then killed; the last checkpoint is at 19
        '{"event": "progr',
        progress(19, 22, 1.0),  # 3 s for three, again
        progress(22, 30, 1.0),  # 8 s for eight
    ]
    found = records.wall_time(lines)
    assert found["seconds"] == pytest.approx(2 + 5 + 1 + 4 + 3 + 8)
    once = 2 + 10 * 0.5 + 4 * 0.25 + 3 * 0.5 + 11 * 1.0  # iterations 19 to 30 as last done
    assert found["seconds_per_iteration"] == pytest.approx(once / 29, abs=1e-6)


def test_the_time_of_an_older_log_lacks_the_first_report_after_a_kill():
    lines = [json.dumps({"event": "progress", "step": n, "speed": 2.0}) for n in (10, 20, 15, 30)]
    assert records.wall_time(lines)["seconds"] == pytest.approx((10 + 10 + 15) / 2)


def test_a_pause_is_no_part_of_the_wall_time():
    """Of a computer that slept: the report after it has a tiny speed. Slow iterations count, and
    volumes that were labeled."""
    speeds = {4: 2.0, 8: 2.0, 10: 0.001, 14: 2.0, 18: 0.25}
    lines = [
        json.dumps({"event": "progress", "step": n, "speed": speed}) for n, speed in speeds.items()
    ]
    found = records.wall_time(lines)
    assert found["seconds"] == pytest.approx((4 + 4 + 2 + 4) / 2 + 4 * 4)
    assert found["seconds_per_iteration"] == pytest.approx(23 / 18, abs=1e-6)
    lines.insert(2, json.dumps({"event": "labeled", "step": 8, "seconds": 900.0}))
    assert records.wall_time(lines)["seconds"] == pytest.approx(23 + 900)
    lines[3] = json.dumps({"event": "progress", "step": 10, "speed": 2 / 903})
    assert records.wall_time(lines)["seconds"] == pytest.approx(23 - 1 + 903)
    assert records.wall_time([])["seconds"] == 0.0


def test_differences_count_new_settings_as_their_defaults():
    then = dataclasses.asdict(UGMCL())
    assert records.differences(UGMCL(), then) == []
    assert records.differences(UGMCL(beta=0.5), then) == ["beta"]
    for name in ("cross", "threshold_ramp"):
        del then[name]
    assert records.differences(UGMCL(), then) == []
    assert records.differences(UGMCL(cross=False), then) == ["cross"]
    assert records.differences(UGMCL(), {**then, "gone": 1}) == ["gone"]
    profile = json.loads(json.dumps(dataclasses.asdict(TINY)))
    profile["about"] = "in other words"
    assert records.differences(TINY, profile) == []
    profile["optimization"]["rate"]["base"] = 0.5
    assert records.differences(TINY, profile, "profile.") == ["profile.optimization.rate.base"]


def test_a_missing_distance_head_is_fed_by_nothing(dataset):
    supervised, ugmcl = (
        p.training for p in plan([Row("a", "supervised"), Row("b", "ugmcl")], dataset)
    )
    for training, wrong in ((supervised, []), (ugmcl, ["profile.network.distance_dropout"])):
        then = json.loads(json.dumps(dataclasses.asdict(training.profile)))
        then["network"]["distance_dropout"] = not then["network"]["distance_dropout"]
        assert records.unlike(training, dataclasses.asdict(training.method), then) == wrong


def test_rows_by_method_or_label():
    assert [r.label for r in only(TABLE_3, ("ugmcl", "MT"))] == ["MT", "UG-MCL"]
    with pytest.raises(InputError, match="no row 'x'"):
        only(TABLE_3, ("x",))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A training of `ugmcl train` on the cases of the experiment."""
    output = tmp_path_factory.mktemp("trained") / "by-hand"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "tiny", TINY)
        words = ["train", "--images", folder / "images", "--labels", folder / "labels",
                 "--labeled-list", folder / "labeled-4.txt", "--exclude-list",
                 folder / "report-2.txt", "--holdout-list", folder / "dev-2.txt", "--method",
                 "ugmcl", "--option", "sharpness=50", "--profile", "tiny", "--device", "cpu",
                 "--output", output]  # fmt: skip
        assert main([str(w) for w in words]) == 0
    return output


def experiment(folder, output, *more):
    words = ["experiment", "table3", "--data", folder, "--profile", "tiny", "--output", output]
    return main([str(w) for w in [*words, "--device", "cpu", *more]])


def test_a_training_of_ugmcl_train_is_adopted(folder, trained, tmp_path, capsys):
    more = ["--only", "UG-MCL", "--adopt", trained]
    assert experiment(folder, tmp_path, *more, "--list") == 0
    told = capsys.readouterr()
    assert "adopted as ugmcl_sharpness-50_4of12" in told.err and "trained, not scored" in told.out
    assert experiment(folder, tmp_path, *more) == 0
    assert "there already" in capsys.readouterr().err
    (path,) = tmp_path.glob("ugmcl_*/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["adopted"] == "by-hand" and record["commit"] is None
    assert record["time"]["seconds"] > 0 and len(record["scores"]["dev"]["rows"]) == 2
    weights = "model/weights.safetensors"
    assert (path.parent / weights).read_bytes() == (trained / weights).read_bytes()
    assert (trained / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--seeds", "7"], "seed (2022)"),
        (["--iterations", "5"], "profile.iterations"),
        (["--labeled-list", "half.txt"], "the labeled cases, the unlabeled cases"),
    ],
)
def test_adoption_of_another_training_is_refused(more, told, folder, trained, tmp_path, capsys):
    names = (folder / "labeled-4.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "half.txt").write_text("\n".join(names[:2]), encoding="utf-8")
    more = [tmp_path / w if w.endswith(".txt") else w for w in more]
    assert experiment(folder, tmp_path / "out", *more, "--adopt", trained, "--list") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and str(trained) in line


def replace_batch(source, target, text):
    """A copy of a training whose model was trained on other batches."""
    copied = Path(shutil.copytree(source, target))
    card = copied / "model" / "model.json"
    content = json.loads(card.read_text(encoding="utf-8"))
    assert content["training"]["batch"] == "2+2"
    content["training"]["batch"] = text
    card.write_text(json.dumps(content), encoding="utf-8")
    return copied


def test_adoption_of_half_a_training_is_refused(dataset, trained, tmp_path):
    place = running.Workplace(tmp_path / "out", dataset, scoring.Scoring())
    profile = planning.profile_for(dataset, "tiny", None)
    once = (planning.Replicate(2022),)
    (item,) = planning.plan([Row("UG-MCL", "ugmcl")], dataset, profile, once, never)
    half = Path(shutil.copytree(trained, tmp_path / "half"))
    from safetensors.torch import load_file, save_file

    settings = adoption._fingerprint(half)[1]
    path = half / "checkpoint.safetensors"
    save_file(load_file(path), path, {"index": "2", "settings": json.dumps(settings)})
    with pytest.raises(InputError, match="has 2 of 4 iterations"):
        adoption.adopt(half, [item.training], place)
    (other,) = planning.plan([Row("MT", "mean-teacher")], dataset, profile, once, never)
    with pytest.raises(InputError, match=r"differs in method \(ugmcl\)"):
        adoption.adopt(half, [other.training], place)
    whole = replace_batch(trained, tmp_path / "whole", "8+8")
    with pytest.raises(InputError, match=r"batches of 8\+8 patches, not of 2\+2"):
        adoption.adopt(whole, [item.training], place)
    card = whole / "model" / "model.json"
    content = json.loads(card.read_text(encoding="utf-8"))
    card.write_text(json.dumps({**content, "patch": [32, 32, 32]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"patches of \(32, 32, 32\) voxels, not of"):
        adoption.adopt(whole, [item.training], place)
    path.unlink()
    with pytest.raises(InputError, match="no training here"):
        adoption.adopt(half, [item.training], place)
    assert not (tmp_path / "out").exists()


def test_profiles_fit_the_data(dataset):
    other = dataclasses.replace(
        dataset, spacing=1.0, normalization=datasets.Normalization("z-score-nonzero")
    )
    paper = planning.profile_for(other, "paper", None)
    assert paper.representation.spacing == (1.0, 1.0, 1.0) and paper.iterations == 6000
    assert paper.representation.normalization.kind == "z-score-nonzero"
    compact = planning.profile_for(other, "compact", 600)
    assert compact.representation.spacing == (2.0, 2.0, 2.0)
    assert compact.representation.normalization.kind == "robust-z"
    assert planning.profile_for(dataset, "paper", None).representation.spacing == (0.625,) * 3


def test_a_head_for_distances_only_where_it_is_used(dataset):
    heads = {
        p.training.method.name: p.training.profile.network.distance_head
        for p in plan([Row("a", "supervised"), Row("b", "ugmcl")], dataset)
    }
    assert heads == {Supervised.name: False, UGMCL.name: True}
