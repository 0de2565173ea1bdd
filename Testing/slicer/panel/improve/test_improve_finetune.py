"""Fine-tuning through the panel with the fake worker: runs, curves and reports."""

from __future__ import annotations

import gc
import json
import os
import re
import time
import weakref
from itertools import pairwise

import harness
import improve_support as improve
import module_support as support
import numpy as np
import psutil
import pytest
import SimpleITK as sitk


@pytest.fixture
def panel(scene, tmp_path, monkeypatch):
    panel = improve.finetune_panel(tmp_path, monkeypatch)
    yield panel
    panel.close()


def test_a_run_from_the_cases_to_the_report(panel, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_OPEN_AT", str(tmp_path / "asked.json"))
    improve.prepare(panel)
    panel.ui.modelNameEdit.text = "My heart"
    panel.ui.compareCheckBox.checked = True
    panel.click("finetuneButton")
    assert not panel.ui.finetuneButton.enabled and panel.ui.cancelFinetuneButton.enabled
    improve.finish(panel)
    asked = json.loads((tmp_path / "asked.json").read_text())
    request, content = asked["request"], asked["list"]
    assert (request["base"], request["name"]) == ("heart", "My-heart")
    assert request["method"] == "ugmcl-volumes"
    assert (request["iterations"], request["compare"], request["resume"]) == (40, True, False)
    roles = [case["role"] for case in content["cases"]]
    assert [roles.count(r) for r in ("labeled", "unlabeled", "holdout")] == [2, 4, 3]
    assert content["classes"][0]["terminology"]["code"] == "82471001"
    assert "Dice rose by 0.050 on average (0.810 to 0.860)" in panel.ui.reportLabel.text
    # a table node, a page, curves, and a model that is listed and selected
    import slicer

    about = slicer.util.getNode("Report on My-heart").GetDescription()
    assert "Started from: heart" in about and "Cases: " in about
    report = improve.columns("Report on My-heart")
    assert report["Case"] == ["hold0", "hold1", "hold2", "Mean"]
    assert report["Dice before"] == ["0.800", "0.810", "0.820", "0.810"]
    assert report["Dice after"] == ["0.850", "0.860", "0.870", "0.860"]
    assert report["Dice labels only"] == ["0.830", "0.840", "0.850", "0.840"]
    assert report["95HD (mm) before"][-1] == "6.00" and report["95HD (mm) after"][-1] == "5.00"
    panel.click("reportButton")
    page = panel.shown[-1].read_text()
    assert "2 labeled, 4 unlabeled, 3 hold-out" in page and "0.860" in page
    assert panel.parameters.model == "My-heart"
    assert panel.parameters.base == "heart"  # the next report starts from what saw none of these
    listed = [panel.ui.modelSelector.itemData(n) for n in range(panel.ui.modelSelector.count)]
    assert "My-heart" in listed and "heart" in listed
    assert panel.ui.baseSelector.findData("My-heart") >= 0
    run = improve.user_runs()[0]
    assert not (run / "cases").exists() and not (run / "cases.json").exists()
    assert panel.ui.runSelector.isHidden()


def test_what_the_worker_is_given_is_what_the_scene_holds(panel, tmp_path, monkeypatch):
    import slicer

    monkeypatch.setenv("FAKE_OPEN_AT", str(tmp_path / "asked.json"))
    monkeypatch.setenv("FAKE_STEP", "0.2")
    improve.prepare(panel, 2, 1, 0)
    segmentation = slicer.util.getNode("lab1 drawn")
    volume = slicer.util.getNode("lab1")
    identifier = segmentation.GetSegmentation().GetNthSegmentID(0)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, volume).copy()
    voxels[3, 4, 5] = 1 - voxels[3, 4, 5]
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, segmentation, identifier, volume)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    content = json.loads((tmp_path / "asked.json").read_text())["list"]
    case = next(c for c in content["cases"] if c["name"] == "lab1")
    run = improve.user_runs()[0]
    assert run.stat().st_mode & 0o777 == (run / "cases").stat().st_mode & 0o777 == 0o700
    image, label = sitk.ReadImage(case["image"]), sitk.ReadImage(case["label"])
    assert np.array_equal(sitk.GetArrayFromImage(label), voxels)
    assert np.array_equal(sitk.GetArrayFromImage(image), slicer.util.arrayFromVolume(volume))
    assert np.allclose(image.GetDirection(), label.GetDirection())
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ lps, support.matrix(), atol=1e-3)
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 2)


def test_a_volume_may_show_nothing_of_the_structure(panel, tmp_path, monkeypatch):
    import slicer

    monkeypatch.setenv("FAKE_OPEN_AT", str(tmp_path / "asked.json"))
    monkeypatch.setenv("FAKE_STEP", "0.1")
    improve.prepare(panel, 1, 1, 1, iterations=20)
    drawn = slicer.util.getNode("lab0 drawn")
    improve.set_role(panel, "un0", "Labeled")
    assert "un0: choose the segmentation" in panel.ui.casesLabel.text
    improve.choose_label(panel, "un0", "Nothing is there")
    assert improve.rows(panel)["un0"][:2] == ("Labeled", "Nothing is there")
    assert "un0: the model learns that none of the structures" in panel.ui.casesLabel.text
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    content = json.loads((tmp_path / "asked.json").read_text())["list"]
    case = next(c for c in content["cases"] if c["name"] == "un0")
    assert case["empty"] is True and case["role"] == "labeled"
    image, label = sitk.ReadImage(case["image"]), sitk.ReadImage(case["label"])
    assert label.GetSize() == image.GetSize() and not sitk.GetArrayFromImage(label).any()
    assert all("empty" not in c for c in content["cases"] if c is not case)
    improve.finish(panel)
    # alone it teaches nothing, and a segmentation takes its place again
    improve.set_role(panel, "lab0", "Ignore")
    assert not panel.ui.finetuneButton.enabled
    assert "Mark at least one case as Labeled" in panel.ui.finetuneButton.toolTip
    improve.choose_label(panel, "un0", drawn.GetName())
    assert improve.rows(panel)["un0"][:2] == ("Labeled", "lab0 drawn")


def test_curves_follow_the_run(panel, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.panel.improve.finetuning import curves

    monkeypatch.setenv("FAKE_STEP", "0.04")
    improve.prepare(panel, iterations=200)
    panel.click("finetuneButton")
    lengths, began = [], time.monotonic()

    def grown():
        shown = improve.columns("Fine-tuning losses")
        lengths.append((time.monotonic(), len(shown["Step"]) if shown else 0))
        return not panel.widget.improve.finetune.running

    harness.wait_until(grown, 60)
    changes = [began] + [b[0] for a, b in pairwise(lengths) if a[1] != b[1]]
    assert len(changes) > 4
    assert max(b - a for a, b in pairwise(changes)) < 5
    losses = improve.columns("Fine-tuning losses")
    titles = ["Labels: voxels", "Labels: overlap", "Teacher", "Both heads"]
    assert set(losses) == {"Step", *titles}
    assert [float(s) for s in losses["Step"]] == list(range(5, 201, 5))
    dice = improve.columns("Hold-out Dice")
    assert [float(s) for s in dice["Step"]] == list(range(20, 201, 20))
    chart, own = curves.charts()  # Dice has an axis of its own
    assert [chart.GetNthPlotSeriesNode(n).GetName() for n in range(4)] == titles
    assert chart.GetNumberOfPlotSeriesNodes() == 4
    assert own.GetNthPlotSeriesNode(0).GetName() == "Hold-out Dice"
    assert own.GetNumberOfPlotSeriesNodes() == 1
    assert panel.shown == [chart]  # before there was a Dice
    assert plotted() == [chart.GetID(), own.GetID()]
    # without unlabeled cases there are other terms, and none of the former run's stay
    for name in ("un0", "un1", "un2", "un3"):
        improve.set_role(panel, name, "Ignore")
    panel.ui.iterationsSpinBox.value = 20
    panel.click("finetuneButton")
    improve.finish(panel)
    assert set(improve.columns("Fine-tuning losses")) == {"Step", *titles[:2]}
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 3


def test_the_layout_stays_while_another_module_is_open(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.improve.finetuning import curves

    monkeypatch.setenv("FAKE_STEP", "0.01")
    improve.prepare(panel, iterations=20)
    panel.click("finetuneButton")
    panel.loaded.exit()
    improve.finish(panel)
    assert curves.charts() and panel.shown == [] and not any(plotted())
    panel.loaded.enter()
    panel.click("curvesButton")
    assert plotted() == [chart.GetID() for chart in curves.charts()]


def plotted() -> list[str]:
    """The charts of the plot views that the layout shows."""
    import slicer

    views = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
    return [view.GetPlotChartNodeID() for view in views if view.IsMappedInLayout()]


def test_the_plot_view_shows_the_chart(panel, monkeypatch):
    """With the real call: the headless Slicer has the plots' logic, and no view that draws."""
    from UGMCLSegmentationLib.panel.improve.finetuning import curves

    monkeypatch.undo()
    shown = curves.Curves()
    shown.add({"step": 1, "losses": {"ce": 0.5}})
    shown.show()
    panel.ui.curvesButton.setVisible(True)
    panel.ui.curvesButton.click()
    assert plotted() == [curves.charts()[0].GetID()]
    shown.add({"step": 2, "losses": {"ce": 0.4}, "dice": 0.8})
    shown.show()
    panel.ui.curvesButton.click()
    assert plotted() == [chart.GetID() for chart in curves.charts()] and len(plotted()) == 2
    shown.clear()
    shown.add({"step": 1, "losses": {"ce": 0.5}})  # another run, without a hold-out case
    shown.show()
    assert len(curves.charts()) == 1


def test_each_class_has_a_curve_of_its_dice(panel, tmp_path):
    from UGMCLSegmentationLib.panel.improve.finetuning import curves, report
    from UGMCLSegmentationLib.storage import runFolder

    events = [
        {"step": 10, "losses": {"ce": 0.5}, "dice": 0.7, "classes": {"wall": 0.6, "Step": 0.8}},
        {"step": 20, "losses": {"ce": 0.4}, "dice": 0.9, "classes": {"wall": None, "Step": 0.9}},
        {"step": 30, "losses": {"ce": 0.3}, "dice": 0.8, "classes": {"wall": 0.7, "Step": 0.9}},
    ]
    shown = curves.Curves()
    for event in events:
        runFolder.addMetrics(tmp_path, event)
    for event in runFolder.metrics(tmp_path):  # as when the run is opened again
        shown.add(event)
    shown.show()
    found = improve.columns("Hold-out Dice")
    assert list(found) == ["Step", "Hold-out Dice", "wall: Dice", "Step: Dice"]
    assert found["Step: Dice"] == ["0.8", "0.9", "0.9"] and found["wall: Dice"][1] == "nan"
    own = curves.charts()[1]
    names = [own.GetNthPlotSeriesNode(n).GetName() for n in range(3)]
    assert names == ["Hold-out Dice", "wall: Dice", "Step: Dice"]
    page = report.page({"model": None}, list(runFolder.metrics(tmp_path)))
    losses, dice = re.findall("<svg.*?</svg>.*?</figcaption>", page)
    assert len(re.findall("<polyline", losses)) == 1 and "0.3" in losses
    assert len(re.findall("<polyline", dice)) == 3
    assert "wall: Dice" in dice and "Step: Dice" in dice and ">0.6<" in dice and ">30<" in dice


@pytest.mark.parametrize(
    "low, high, wanted",
    [(0.72, 0.91, [0.7, 0.75, 0.8, 0.85, 0.9, 0.95]), (0, 300, [0, 100, 200, 300]),
     (5, 5, [4, 6]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)  # fmt: skip
def test_the_axes_have_round_numbers(low, high, wanted):
    from UGMCLSegmentationLib.panel.improve.finetuning.lineChart import ticks

    assert ticks(low, high) == pytest.approx(wanted)


def test_the_report_tells_the_dice_of_each_structure():
    from UGMCLSegmentationLib.panel.improve.finetuning import report

    def measured(dice, **classes):
        return {"dice": dice, "hd95_mm": 2.0, "classes": classes}

    cases = [
        {"name": "a", "before": measured(0.5, wall=0.4, blood=0.6),
         "after": measured(0.7, wall=0.6, blood=0.8), "supervised": None},
        {"name": "b", "before": measured(0.6, wall=None, blood=0.6),
         "after": measured(0.9, wall=None, blood=0.9), "supervised": None},
    ]  # fmt: skip
    titles, table = report.rows({"cases": cases})
    assert titles[:3] == ["Case", "Dice before", "Dice after"]
    found = {row[0]: row[1:] for row in table}
    assert list(found) == ["a", "b", "Mean of wall", "Mean of blood", "Mean"]
    assert found["Mean of wall"] == ["0.400", "0.600", "", ""]
    assert found["Mean of blood"] == ["0.600", "0.850", "", ""]
    one = [{**case, "after": measured(0.8, wall=0.8)} for case in cases]
    assert [row[0] for row in report.rows({"cases": one})[1]] == ["a", "b", "Mean"]
    scratch = [{**case, "before": None} for case in cases]
    titles, table = report.rows({"cases": scratch})
    assert titles == ["Case", "Dice", "95HD (mm)"] and table[0] == ["a", "0.700", "2.00"]


def test_a_dice_may_come_before_the_first_losses(panel):
    """As in runs that are shorter than the pause between two lines of losses."""
    from UGMCLSegmentationLib.panel.improve.finetuning import curves

    shown = curves.Curves()
    shown.add({"step": 30, "losses": {}, "dice": 0.8})
    shown.show()
    assert improve.columns("Hold-out Dice") == {"Step": ["30"], "Hold-out Dice": ["0.8"]}
    assert [chart.GetName() for chart in curves.charts()] == ["Hold-out Dice"]
    shown.add({"step": 40, "losses": {"ce": 0.5}})
    shown.show()
    assert [float(s) for s in improve.columns("Fine-tuning losses")["Step"]] == [40]
    assert len(curves.charts()) == 2


def test_estimate_before_a_run(panel):
    improve.prepare(panel, iterations=1000)
    assert panel.ui.estimateLabel.isHidden()
    panel.click("estimateButton")
    improve.finish(panel)
    # 1000 steps of 0.5 s, and 100 s for the rest: each look at the hold-out cases, say
    told = "Takes about 10 min and 1.5 GB of memory on this computer."
    assert panel.ui.estimateLabel.text == told
    assert told in panel.ui.improveLogText.toPlainText()
    assert improve.user_runs() == []
    panel.ui.presetSelector.currentIndex = panel.ui.presetSelector.findData("quick")
    assert panel.parameters.iterations == 200 and "3 min" in panel.ui.estimateLabel.text
    assert not panel.ui.compareCheckBox.checked
    panel.ui.presetSelector.currentIndex = panel.ui.presetSelector.findData("thorough")
    assert panel.ui.compareCheckBox.checked and panel.parameters.compare
    panel.ui.presetSelector.currentIndex = panel.ui.presetSelector.findData("quick")
    assert not panel.ui.compareCheckBox.checked
    panel.ui.compareCheckBox.checked = True
    assert "5 min" in panel.ui.estimateLabel.text
    for number in range(3):
        improve.set_role(panel, f"hold{number}", "Ignore")
    panel.ui.leaveOneOutCheckBox.checked = True  # 1 + 2 * 2 trainings of 200 steps
    assert "10 min" in panel.ui.estimateLabel.text
    panel.ui.iterationsSpinBox.value = 123
    selector = panel.ui.presetSelector
    assert selector.itemData(selector.currentIndex) == "custom"


def test_the_estimate_gives_way_to_the_run(panel, monkeypatch):
    monkeypatch.setenv("FAKE_STEP", "0.02")
    improve.prepare(panel, iterations=200)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    assert panel.ui.estimateLabel.isHidden()  # the progress tells time and memory
    panel.click("cancelFinetuneButton")
    improve.finish(panel)
    assert panel.ui.estimateLabel.text.startswith("Takes about")


def test_a_report_that_could_tell_nothing_is_said_before_the_run(panel):
    improve.open_improve(panel)
    assert "load some, or add files" in panel.ui.casesLabel.text
    improve.prepare(panel, 3, 1, 2)
    label = panel.ui.estimateLabel
    assert label.text.startswith("With fewer than 3 hold-out cases, the report cannot tell")
    improve.set_role(panel, "lab0", "Hold-out")
    assert label.isHidden()
    for name in ("lab0", "hold0", "hold1"):
        improve.set_role(panel, name, "Ignore")
    improve.set_role(panel, "lab0", "Labeled")
    assert "fewer than 3" in label.text
    panel.ui.leaveOneOutCheckBox.checked = True
    assert label.isHidden()
    panel.ui.leaveOneOutCheckBox.checked = False
    panel.ui.baseSelector.currentIndex = panel.ui.baseSelector.count - 1  # nothing to compare
    assert label.isHidden()


def test_why_a_button_is_disabled(panel):
    ui = panel.ui
    improve.open_improve(panel)
    for name in ("finetuneButton", "estimateButton"):
        assert not getattr(ui, name).enabled
        assert "Mark at least one case as Labeled" in getattr(ui, name).toolTip
    improve.prepare(panel, 1, 0, 0)
    assert "Run a few steps" in ui.estimateButton.toolTip
    for name in ("rankButton", "openNextButton"):
        assert "set the role of a volume to Unlabeled" in getattr(ui, name).toolTip
    ui.minutesSpinBox.value = 5
    assert "Set them to 0" in ui.iterationsSpinBox.toolTip
    ui.minutesSpinBox.value = 0
    assert "Number of training steps" in ui.iterationsSpinBox.toolTip
    ui.baseSelector.currentIndex = ui.baseSelector.count - 1
    assert "anyway" in ui.replanCheckBox.toolTip


def test_the_plan_of_a_training_from_scratch_and_a_length_in_minutes(panel):
    improve.prepare(panel, iterations=1000)
    assert panel.ui.planLabel.isHidden()
    panel.ui.baseSelector.currentIndex = panel.ui.baseSelector.count - 1
    assert panel.ui.planLabel.text == "Estimate shows how the training is planned for these cases."
    panel.ui.minutesSpinBox.value = 5
    selector = panel.ui.presetSelector
    assert selector.itemData(selector.currentIndex) == "custom"
    assert not panel.ui.iterationsSpinBox.enabled
    panel.click("estimateButton")
    improve.finish(panel)
    line = "<b>patch</b> 96,96,10 (voxels seen at once): a whole typical image"
    assert line in panel.ui.planLabel.text
    assert panel.ui.estimateLabel.text.startswith("Takes about 7 min")  # and 100 s for the rest
    selector.currentIndex = selector.findData("quick")
    assert panel.parameters.minutes == 0 and panel.ui.iterationsSpinBox.enabled
    assert not panel.ui.replanCheckBox.enabled, "it is planned anyway"
    panel.ui.baseSelector.currentIndex = 0
    assert panel.ui.planLabel.isHidden()
    panel.ui.replanCheckBox.checked = True
    assert panel.ui.planLabel.text == "Estimate shows how the training is planned for these cases."
    panel.click("estimateButton")
    improve.finish(panel)
    text = panel.ui.planLabel.text
    assert text.index("a whole typical image") < text.index("For engineers:<br><b>filters</b> 16")


def test_a_warning_where_the_gpu_is_not_used(panel, monkeypatch):
    from UGMCLSegmentationLib.panel.setup import dependencies

    facts = dependencies.Facts(torch="2.6", torchUsesGpu=False, hasNvidia=True)
    monkeypatch.setattr(dependencies, "facts", lambda: facts)
    improve.open_improve(panel)
    panel.widget.improve.refresh()
    assert "NVIDIA GPU" in panel.ui.estimateLabel.text


@pytest.mark.parametrize(
    ("gain", "counts", "words", "is_selected"),
    [
        (
            "-0.02",
            (2, 1, 3),
            "Not better: the former model stays selected. Dice fell by 0.020",
            False,
        ),
        ("0.05", (2, 1, 2), "Not enough evidence: ", True),
        ("0.05", (2, 1, 0), "Not enough evidence: ", True),
    ],
)
def test_a_report_says_no_more_than_is_known(panel, monkeypatch, gain, counts, words, is_selected):
    monkeypatch.setenv("FAKE_GAIN", gain)
    improve.prepare(panel, *counts)
    panel.click("finetuneButton")
    improve.finish(panel)
    assert words in panel.ui.reportLabel.text
    is_advised = "More corrected cases" in panel.ui.reportLabel.text
    assert is_advised == words.startswith("Not better")
    assert (panel.parameters.model == "my-model") == is_selected
    assert panel.ui.modelSelector.findData("my-model") >= 0


def test_leave_one_out_where_there_is_no_hold_out(panel):
    improve.prepare(panel, 3, 1, 0)
    panel.ui.leaveOneOutCheckBox.checked = True
    panel.click("finetuneButton")
    improve.finish(panel)
    assert "fine-tuned without it" in panel.ui.reportLabel.text
    assert improve.columns("Report on")["Case"] == ["lab0", "lab1", "lab2", "Mean"]


def test_what_is_missing_is_said_before_a_run(panel):
    support.add_volume(name="bare")
    improve.open_improve(panel)
    assert not panel.ui.finetuneButton.enabled
    assert "at least one case as Labeled" in panel.ui.finetuneButton.toolTip
    improve.set_role(panel, "bare", "Labeled")
    assert "choose the segmentation" in panel.ui.finetuneButton.toolTip


@pytest.mark.parametrize("place", ["copy", "worker"])
def test_failures_are_one_line(panel, monkeypatch, place):
    from UGMCLSegmentationLib.scene import nrrd

    improve.prepare(panel, 1, 1, 0)
    with monkeypatch.context() as patch:
        if place == "copy":
            patch.setattr(nrrd, "open", full_disk, raising=False)
        else:
            patch.setenv("FAKE_ERROR", "the label of lab0 is empty")
        panel.click("finetuneButton")
        improve.finish(panel)
    message = panel.ui.improveMessageLabel.text
    assert ("No space left" if place == "copy" else "lab0 is empty") in message
    assert "\n" not in message and panel.ui.finetuneButton.enabled


def full_disk(*_arguments, **_options):
    raise OSError(28, "No space left on device")


def test_segmenting_goes_on_during_a_run(panel, monkeypatch):
    import slicer

    monkeypatch.setenv("FAKE_HOLD_AT", "30")
    improve.prepare(panel)
    panel.click("finetuneButton")
    improve.wait_for_steps(panel)
    assert panel.segment(slicer.util.getNode("un0")) is not None
    assert panel.widget.improve.finetune.running
    panel.click("cancelFinetuneButton")
    improve.finish(panel, 2)


def test_ten_runs_leave_the_nodes_of_one_and_little_memory(panel):
    improve.prepare(panel, 2, 2, 3, iterations=20)
    process = psutil.Process()
    counts, memory = [], []
    for _ in range(10):
        panel.click("finetuneButton")
        improve.finish(panel)
        counts.append(support.node_counts())
        gc.collect()
        memory.append(process.memory_info().rss / 1e6)
    assert all(count == counts[0] for count in counts)
    assert memory[9] - memory[2] < 50
    assert len({path.name for path in improve.user_runs()}) == 10


def test_the_panel_stays_fluent(panel):
    """With cases of a real scan's size, while they are written."""
    import qt

    big = np.random.default_rng(0).normal(0, 1, (88, 400, 400)).astype(np.float32)
    volume = support.add_volume(big, name="big")
    improve.add_segmentation(volume, {"left atrium": big > 2})
    improve.open_improve(panel)
    ticks = []
    timer = qt.QTimer()
    timer.setInterval(50)
    timer.connect("timeout()", lambda: ticks.append(time.monotonic()))
    timer.start()
    panel.ui.iterationsSpinBox.value = 10
    began = time.monotonic()
    panel.click("finetuneButton")
    improve.finish(panel)
    timer.stop()
    slip = max(b - a for a, b in pairwise([began, *ticks, time.monotonic()])) - 0.05
    busy = psutil.getloadavg()[0] / os.cpu_count()
    assert slip < 0.3 * max(1.0, busy)


def test_the_widget_dies_with_its_panel(scene, tmp_path, monkeypatch):
    model = improve.add_model(tmp_path / "models" / "heart", ("left atrium", ""))
    monkeypatch.setenv("UGMCL_MODELS", os.path.dirname(model))
    panel = support.Panel()
    panel.parameters.base = "heart"
    improve.prepare(panel, 1, 1, 1, iterations=10)
    panel.click("finetuneButton")
    improve.finish(panel)
    section = panel.widget.improve
    dead = [weakref.ref(o) for o in (panel.widget, section, section.caseList, section.cases,
                                     section.finetune, section.structures)]  # fmt: skip
    del section
    panel.close()
    gc.collect()
    assert [reference() for reference in dead] == [None] * len(dead)
