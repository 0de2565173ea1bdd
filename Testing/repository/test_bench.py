"""The benchmark's command: it measures, judges and writes what it found."""

import json
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "benchmarks" / "bench.py"


@pytest.mark.slow
def test_the_benchmark_measures_and_judges(tmp_path):
    command = [sys.executable, str(BENCH), "import", "loader", "--json", str(tmp_path / "n.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode in (0, 1), done.stderr
    assert ("MISSED" in done.stdout) == (done.returncode == 1)
    rows = json.loads((tmp_path / "n.json").read_text())["rows"]
    assert [r["row"] for r in rows] == ["import", "loader", "loader"]
    assert rows[0]["ratio"] is None and "<= 50 ms" in rows[0]["goal"]
    assert rows[2]["ratio"] == pytest.approx(rows[1]["seconds"] / rows[2]["seconds"])
    assert all(r["memory"] > 2**20 for r in rows)


def test_the_benchmark_names_a_row_that_it_does_not_have():
    done = subprocess.run([sys.executable, str(BENCH), "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no row 'nothing'" in done.stderr


def test_the_time_to_accuracy_is_measured_alone_and_on_given_scans(tmp_path):
    for words in (["accuracy"], ["accuracy", "import", "--data", str(tmp_path)]):
        done = subprocess.run([sys.executable, str(BENCH), *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert "with --data DIR" in done.stderr


def test_the_roofline_counts_a_product_per_weight_and_voxel(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCH.parent))
    import roofline

    layers = torch.nn.Sequential(
        torch.nn.Conv3d(2, 3, 3, padding=1), torch.nn.ConvTranspose3d(3, 5, 2, stride=2)
    )
    image = torch.zeros(1, 2, 4, 4, 4)
    operations, elements = roofline.counted(lambda: layers(image), layers)
    assert operations == 2 * 4**3 * 3 * (2 * 3**3) + 2 * 8**3 * 5 * 3
    assert elements == 4**3 * (2 + 3) + 4**3 * 3 + 8**3 * 5


def test_the_clock_of_a_training_counts_its_iterations_alone(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCH.parent / "accuracy"))
    import time_to_accuracy

    now = iter((0, 70, 70, 100, 100, 190, 190, 200, 200, 260, 260))
    monkeypatch.setattr(time_to_accuracy.time, "monotonic", lambda: next(now))

    def train(*_, on_event, **__):
        on_event({"event": "preparing"})  # 70 s that do not count
        on_event({"event": "progress"})  # 30 that do
        on_event({"event": "holdout", "step": 5, "dice": [0.8, 0.92]})  # 90 that do not
        on_event({"event": "labeled"})  # 10 that do
        on_event({"event": "done", "step": 9, "dice": [0.89, 0.92]})  # 60 that do not

    monkeypatch.setattr(time_to_accuracy, "train", train)
    words = types.SimpleNamespace(seed=1, every=5, method="dual-task", labeled=4)
    clock = time_to_accuracy.Clock(120.0, [(60.0, 50.0)])  # of an earlier call
    (tmp_path / "run").mkdir()
    time_to_accuracy.write_json(tmp_path / "run/clock.json", vars(clock))
    clock = time_to_accuracy.trained(tmp_path / "run", None, None, None, words)
    assert clock.seconds == 120 + 30 + 10
    assert list(map(tuple, clock.reached)) == [
        (60, 50), (150, pytest.approx(86)), (160, pytest.approx(90.5))
    ]  # fmt: skip
    start = time_to_accuracy.CoarseStart(*time_to_accuracy.ON_TWO_MM, 0.75)
    profile = replace(time_to_accuracy.COMPACT, coarse=start)
    row = time_to_accuracy.table(clock, profile, words).splitlines()[2]
    assert "`compact`, 1800 on 2 mm, then 600 on 1.25 mm" in row
    assert row.endswith("| 2 min | 3 min | 3 min |  | 90.5 % after 3 min |"), row
