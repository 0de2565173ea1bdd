"""Figures: what they plot, and that they are written by the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experiment_samples import write_la
from matplotlib.colors import to_rgb
from samples import ball

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.experiments import curves, datasets, pictures, planning, records, results, running
from ugmcl_core.experiments import pictures as surfaces
from ugmcl_core.experiments.paper import EXPERIMENTS
from ugmcl_core.experiments.scoring import Scoring

SEEDS = (1, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("la")
    write_la(folder, labeled=4, unlabeled=12, held=3)
    return folder


def invent(name: str, data: Path, output: Path, seeds=SEEDS, without=()):
    """Records with invented Dice for the rows of an experiment but those of methods ``without``:
    its results, and the Dice by label, (S, N)."""
    dataset = datasets.find(data)
    place = running.Workplace(output, dataset, Scoring())
    rows = EXPERIMENTS[name].rows
    profile = planning.profile_for(dataset, "tiny", None)
    replicates = [planning.Replicate(seed) for seed in seeds]
    planned = planning.plan(rows, dataset, profile, replicates, lambda reference, other: 10)
    log = output / "log.jsonl"
    log.parent.mkdir(exist_ok=True)
    log.write_text(json.dumps({"event": "progress", "step": 4, "speed": 2.0}), encoding="utf-8")
    invented: dict[str, list[np.ndarray]] = {}
    random = np.random.default_rng(8)
    drawn: dict[str, np.ndarray] = {}
    for item in planned:
        if item.row.method in without:
            continue
        record = records.new(item.training, "cpu", log)
        dice = random.uniform(0.6, 0.95, len(dataset.dev))
        dice = drawn.setdefault(item.training.folder, dice)  # rows may share a training
        invented.setdefault(item.row.label, []).append(dice)
        scored = []
        for case, value in zip(dataset.dev, dice, strict=True):
            measures = {"dice": value, "jaccard": value / (2 - value), "asd": 2.0, "hd95": 8.0,
                        "asd_mm": 1.2, "hd95_mm": 5.0}  # fmt: skip
            scored.append({"case": case, "label": 1, **measures, "largest": measures})
        record["scores"]["dev"] = {"cases": list(dataset.dev), "rows": scored}
        records.write(place.folder(item.training), record)
    return results.gather(place, rows, planned), {k: np.stack(v) for k, v in invented.items()}


def experiment(name, data, output, *more):
    words = ["experiment", name, "--data", data, "--output", output, "--profile", "tiny",
             "--device", "cpu", *more]  # fmt: skip
    return main([str(w) for w in words])


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("figure4", curves.against_labels),
        ("figure3", curves.against_threshold),
        ("few-labels", curves.against_few_labels),
    ],
)
def test_curves_show_the_means_over_seeds_and_cases(name, draw, data, tmp_path):
    found, invented = invent(name, data, tmp_path)
    (axes,) = draw(found, "about").axes
    handles, names = axes.get_legend_handles_labels()
    rows = EXPERIMENTS[name].rows
    shown = dict(zip(names, handles, strict=True))
    ticks = sorted({r.x for r in rows if r.x})
    if name == "few-labels":
        bound = shown.pop("All labels (16)")  # a level line
        np.testing.assert_allclose(bound.get_ydata(), 100 * invented["All labels"].mean())
        rows = [replace(r, x=np.log2(r.x)) for r in rows if r.share]
    assert set(shown) == {r.series for r in rows}
    for series, handle in shown.items():
        points = sorted((r.x, invented[r.label].mean()) for r in rows if r.series == series)
        line = handle.lines[0]
        x, y = line.get_xydata().T
        np.testing.assert_allclose(y, [100 * mean for _, mean in points])
        np.testing.assert_allclose(x, [place for place, _ in points], atol=0.5)
        bars = handle.lines[2][0].get_segments()
        for (_, mean), bar in zip(points, bars, strict=True):
            assert bar[0][1] <= 100 * mean <= bar[1][1]
    assert [t.get_text() for t in axes.get_xticklabels()] == [f"{x:g}" for x in ticks]


def test_curves_leave_out_what_is_missing(data, tmp_path):
    found, _ = invent("figure4", data, tmp_path, without=("dtc",))
    (axes,) = curves.against_labels(found, "about").axes
    assert set(axes.get_legend_handles_labels()[1]) == {"Supervised", "UG-MCL", "UA-MT"}


def test_figure_4_by_the_command(data, tmp_path, capsys):
    output, rendered = tmp_path / "runs", tmp_path / "shown"
    _, invented = invent("figure4", data, output)
    more = ["--seeds", "1,2", "--render", "--render-to", rendered]
    assert experiment("figure4", data, output, *more) == 0
    written = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert written == [f"figure4-tiny-4-dev.{s}" for s in ("md", "png", "svg")]
    assert (rendered / "figure4-tiny-4-dev.png").read_bytes()[:4] == b"\x89PNG"
    before = (rendered / "figure4-tiny-4-dev.svg").read_bytes()
    assert experiment("figure4", data, output, *more) == 0
    assert (rendered / "figure4-tiny-4-dev.svg").read_bytes() == before
    text = (rendered / "figure4-tiny-4-dev.md").read_text(encoding="utf-8")
    gain = 100 * (invented["UG-MCL (20 %)"].mean() - invented["Supervised (20 %)"].mean())
    assert f"| 20 % | {gain:+.2f} | +4.13 |" in text
    assert "![Figure 4" in text and "no ranking" not in text
    assert len(list((rendered / "records").iterdir())) == 2 * 24


def test_few_labels_by_the_command(data, tmp_path, capsys):
    """What unlabeled volumes bring is read off pairs of the same seed."""
    output, rendered = tmp_path / "runs", tmp_path / "shown"
    _, invented = invent("few-labels", data, output, without=("ugmcl",))
    more = ["--seeds", "1,2", "--render", "--render-to", rendered]
    assert experiment("few-labels", data, output, *more) == 0
    text = (rendered / "few-labels-tiny-4-dev.md").read_text(encoding="utf-8")
    lines = {tuple(c[:2]): c for line in text.splitlines()
             if len(c := [cell.strip() for cell in line.split("|")[1:-1]]) == 10}  # fmt: skip
    volumes, alone, bound = (
        invented[n] for n in ("UG-MCL by volumes (8)", "Labels alone (8)", "All labels")
    )
    cells = lines["8", "UG-MCL by volumes"]
    gain = 100 * (volumes - alone).mean()
    assert cells[2] == ", ".join(f"{100 * d:.1f}" for d in volumes.mean(axis=1))
    assert cells[3] == f"{100 * volumes.min(axis=1).mean():.1f}"
    assert cells[4] == f"{(volumes < 0.7).sum()} of 6"
    assert cells[5] == f"{gain:+.2f}"
    gap = 100 * (bound.mean() - alone.mean())
    assert cells[8] == (f"{100 * gain / gap:.0f} %" if gap > 0 else "no gap")
    assert lines["8", "Labels alone"][5:9] == [""] * 4
    assert "## Compared with labels alone, by Dice" in text and "| UG-MCL (4)" not in text


def test_seeds_with_the_same_labels_are_no_further_draws(data, tmp_path):
    found, invented = invent("few-labels", data, tmp_path)
    result = found.named("Labels alone (8)")
    dice, cases = invented["Labels alone (8)"], found.cases
    np.testing.assert_allclose(result.independent(cases), dice)
    (rows, *_) = result.scored.values()
    scored = {planning.Replicate(seed, draw): rows for draw in (0, 1) for seed in (1, 2, 3)}
    several = replace(result, scored=scored)
    assert several.values(cases).shape == (6, 3) and several.independent(cases).shape == (2, 3)


def test_chosen_cases_are_lowest_median_and_highest(data, tmp_path):
    found, invented = invent("figure5", data, tmp_path)
    dice = dict(zip(found.cases, invented["UG-MCL"].mean(axis=0), strict=True))
    order = sorted(dice, key=dice.get)
    assert list(pictures.choose(found, ())) == order  # three cases
    assert pictures.choose(found, (order[1],)) == {order[1]: ""}
    with pytest.raises(InputError, match="not among the scored cases"):
        pictures.choose(found, ("phantom-000",))


def test_pictures_by_the_command(data, tmp_path, capsys):
    only = ["--only", "Supervised,UG-MCL"]
    assert experiment("figure5", data, tmp_path, *only) == 0
    assert experiment("figure6", data, tmp_path, *only, "--render", "--cases", "phantom-017") == 0
    rendered = tmp_path / "rendered"
    for name in ("figure5", "figure6"):
        for suffix in ("png", "svg", "md"):
            assert (rendered / f"{name}-tiny-4-dev.{suffix}").stat().st_size > 1000
    text = (rendered / "figure5-tiny-4-dev.md").read_text(encoding="utf-8")
    assert "lowest Dice of UG-MCL" in text and "highest Dice of UG-MCL" in text
    assert "phantom-017" in (rendered / "figure6-tiny-4-dev.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert experiment("figure5", data, tmp_path, *only, "--render", "--cases", "x") == 2
    assert "x is not among the scored cases" in capsys.readouterr().err


def scene() -> pictures.Scene:
    reference = ball()
    image = reference * 100.0 + np.arange(20)[:, None, None]
    found = {"A": np.roll(reference, 2, axis=0), "B": np.zeros_like(reference)}
    return pictures.Scene("case", "lowest Dice of A", image, reference, found, (1.0, 1.0, 2.0))


def test_slices_show_patient_right_on_the_left_and_front_at_the_top():
    figure = pictures.slices([scene()], "about")
    assert [a.get_title() for a in figure.axes] == ["A", "B"]
    shown = figure.axes[0].images[0].get_array()
    image = scene().image
    level = 8  # through the ball's center
    # i runs to the patient's right, j to the front: the first row is the front, and its first
    # column the right
    np.testing.assert_allclose(shown[0, 0], image[-1, -1, level])
    np.testing.assert_allclose(shown[-1, -1], image[0, 0, level])
    contours = [len(a.collections) for a in figure.axes]
    assert contours == [2, 1], "reference and method; nothing for an empty result"
    reference, found = figure.axes[0].collections
    for contour, color in ((reference, pictures.REFERENCE), (found, pictures.FOUND)):
        np.testing.assert_allclose(contour.get_edgecolor()[0][:3], to_rgb(color), atol=0.01)
    gap = found.get_paths()[0].vertices.mean(axis=0) - reference.get_paths()[0].vertices.mean(0)
    np.testing.assert_allclose(gap, [-2.0, 0.0], atol=0.3)  # 2 mm to the right: to the left here
    a, b = scene().found["A"], scene().reference
    dice = f"{200 * (a & b).sum() / (a.sum() + b.sum()):.1f} %"
    assert dice in [t.get_text() for t in figure.axes[0].texts]


def test_surfaces_of_a_ball():
    spacing = (1.0, 0.5, 2.0)
    radius, center = 8.0, np.array([12.0, 11.0, 14.0])  # mm
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (25, 45, 15)), indexing="ij"), -1)
    mask = np.linalg.norm(grid * spacing - center, axis=-1) < radius
    vertices, triangles = surfaces.surface(mask, spacing)
    distance = np.linalg.norm(vertices - center, axis=1)
    assert abs(distance - radius).max() < 1.5 and abs(distance.mean() - radius) < 0.4
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all(), "not closed"
    a, b, c = (vertices[triangles[:, n]] for n in range(3))
    outward = ((a + b + c) / 3 - center) / radius
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), outward) > 0).mean() > 0.99
    points = center + np.array([[3.0, 0, 0], [0, 10.0, 0]])
    found = surfaces.distances(points, mask, spacing)
    np.testing.assert_allclose(found, [-5.0, 2.0], atol=1.0)  # half a voxel
    assert len(surfaces.surface(np.zeros((4, 4, 4), bool), spacing)[1]) == 0


def test_surfaces_are_cut_to_what_is_shown():
    mask = np.ones((20, 20, 20), bool)
    kept = surfaces.within(mask, (1.0, 1.0, 2.0), np.array([10.0, 2.0, 20.0]), 4.0)
    places = np.argwhere(kept)
    assert places.min(axis=0).tolist() == [6, 0, 8]
    assert places.max(axis=0).tolist() == [14, 6, 12]
    assert surfaces.half_extent(kept, (1.0, 1.0, 2.0)) == 4.0
    np.testing.assert_allclose(surfaces.middle(kept, (1.0, 1.0, 2.0)), [10.0, 3.0, 20.0])


def test_surface_figure_has_the_reference_and_each_method():
    figure = pictures.surface_figure([scene()], "about")
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == ["Reference", "A", "B"]
    faces = [len(a.collections) for a in figure.axes[:3]]
    assert faces == [1, 1, 0], "an empty result has no surface"
    colors = figure.axes[0].collections[0]
    assert colors.get_rasterized()


def test_missing_packages_are_named_before_anything_is_trained(
    data, tmp_path, monkeypatch, capsys
):
    import sys

    for module, name in (("matplotlib", "figure5"), ("vtkmodules.vtkCommonCore", "figure6")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            assert experiment(name, data, tmp_path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert module.split(".")[0].replace("vtkmodules", "vtk") in line and "pip install" in line
    assert not list(tmp_path.iterdir())
