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


def test_sides_that_do_not_fit_into_memory_are_opened_one_after_the_other(bench, monkeypatch):
    opened = []

    class Timed:
        def __init__(self, row, side):
            opened.append(side)
            assert len(opened) == 1

        def measure(self):
            return 1.0

        def end(self):
            return 2**20

        def kill(self):
            opened.pop()

    monkeypatch.setattr(bench, "Side", Timed)
    found = bench.measure("what", bench.Row("what", {"a": None, "b": None}, {}, together=False))
    assert [m.side for m in found] == ["a", "b"] and found[1].ratio == 1.0


def test_a_side_that_dies_is_named(bench, monkeypatch):
    code = "import os, sys; print('ready', flush=True); os.kill(os.getpid(), 9)"
    popen = subprocess.Popen
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(bench.subprocess, "Popen", lambda _, **more: popen(command, **more))
    side = bench.Side("what", "a")
    side._process.wait()
    with pytest.raises(SystemExit, match=r"ended with code -9 \(out of memory"):
        side.measure()


def test_the_benchmark_measures_and_judges(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "import", "distance"]
    command += ["--json", str(tmp_path / "numbers.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    assert ("MISSED" in done.stdout) == (done.returncode == 1)
    rows = json.loads((tmp_path / "numbers.json").read_text())["rows"]
    assert [r["row"] for r in rows] == ["import", "distance", "distance"]
    assert rows[0]["seconds"] < 0.05 and rows[0]["ratio"] is None
    assert rows[2]["ratio"] == pytest.approx(rows[1]["seconds"] / rows[2]["seconds"])
    assert all(r["memory"] > 2**20 for r in rows)


def test_the_benchmark_names_a_row_that_it_does_not_have():
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "nothing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no row 'nothing'" in done.stderr
