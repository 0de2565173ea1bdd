"""The benchmark's command: it measures, judges and writes what it found."""

import json
import subprocess
import sys
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
