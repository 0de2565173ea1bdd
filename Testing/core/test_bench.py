"""The benchmark's command: what its table says of a ratio and of a goal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench

    return bench


def measured(bench, monkeypatch, seconds, goals):
    """The rows of sides that take these seconds, as they would be printed."""

    class Timed:
        def __init__(self, row, side):
            self.side = side

        def measure(self):
            return seconds[self.side]

        def end(self):
            return 2**30

        def kill(self):
            pass

    monkeypatch.setattr(bench, "Side", Timed)
    row = bench.Row("what", dict.fromkeys(seconds), goals)
    monkeypatch.setitem(bench.ROWS, "what", row)
    return bench.table(bench.measure("what", row)).splitlines()[2:]


def test_a_side_that_is_faster_says_how_many_times(bench, monkeypatch):
    lines = measured(bench, monkeypatch, {"a": 6.0, "b": 1.5, "c": 3.0}, {"b": 3.0, "c": 2.5})
    assert lines == [
        "| what | a | 6 s |  | 1.00 GiB |  |",
        "|  | b | 1.5 s | 4.0x | 1.00 GiB | >= 3.0x ok |",
        "|  | c | 3 s | 2.0x | 1.00 GiB | >= 2.5x MISSED |",
    ]


def test_a_side_that_is_slower_says_how_many_times(bench, monkeypatch):
    goals = {"b": 1 / 5.3, "c": 1 / 3.5}
    lines = measured(bench, monkeypatch, {"a": 0.5, "b": 2.5, "c": 2.0}, goals)
    assert lines[1:] == [
        "|  | b | 2.5 s | 1/5.0x | 1.00 GiB | >= 1/5.3x ok |",
        "|  | c | 2 s | 1/4.0x | 1.00 GiB | >= 1/3.5x MISSED |",
    ]


@pytest.mark.parametrize(("seconds", "verdict"), [(0.04, "ok"), (0.06, "MISSED")])
def test_a_single_side_has_a_goal_in_seconds(bench, monkeypatch, seconds, verdict):
    (line,) = measured(bench, monkeypatch, {"a": seconds}, {"a": 0.05})
    assert line.endswith(f"| <= 50 ms {verdict} |")


def test_a_row_is_measured_and_written(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench.py", "import", "--json", tmp_path / "rows.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["seconds"] > 0 and row["memory"] > 2**20
    assert "| import ugmcl_core | ugmcl |" in done.stdout
    assert done.returncode == int("MISSED" in done.stdout)


def test_an_unknown_row_is_refused(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench.py", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no row 'nothing'" in done.stderr
