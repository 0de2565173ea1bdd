"""Pictures of the Improve, Evaluate and All volumes sections for docs/tutorial.md.

    python Testing/slicer/screenshots_improve.py [folder]

The volumes are generated phantoms, and a fake worker plays the model: the pictures show the panel
and not what a model can do.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import harness  # noqa: E402
import improve_support as improve  # noqa: E402
import module_support as support  # noqa: E402
from screenshots import USER, add_model_card, grab_section  # noqa: E402

NAMES = tuple(f"Patient {number}" for number in range(1, 8))
ROLES = ("Labeled",) * 2 + ("Unlabeled",) * 2 + ("Hold-out",) * 3
SECTIONS = ("segmentSection", "displaySection", "improveSection", "evaluateSection",
            "batchSection", "exportSection")
PLOT = (640, 300)


def open_panel(folder: Path) -> Any:
    """The panel with a few phantoms, those that are not unlabeled with a segmentation."""
    import scipy.ndimage

    from ugmcl_core.data import phantoms, volume

    harness.start()
    import slicer

    add_model_card(folder / "models" / "la-lge-mri")
    os.environ["UGMCL_MODELS"] = str(folder / "models")
    for number, (name, role) in enumerate(zip(NAMES, ROLES, strict=True)):
        image, labels = phantoms.phantom(number, (80, 70, 36), (1.6, 1.6, 2.8))
        volume.write(folder / f"{name}.nrrd", image)
        node = slicer.util.loadVolume(str(folder / f"{name}.nrrd"))
        if role != "Unlabeled":
            mask = labels.array.transpose(2, 1, 0) == 1
            drawn = improve.add_segmentation(node, {"left atrium": mask}, f"Drawn {number + 1}")
            drawn.GetSegmentation().GetNthSegment(0).SetColor(0.86, 0.36, 0.31)
        found = scipy.ndimage.binary_opening(labels.array == 1, iterations=2)
        volume.write(
            folder / f"{name}-found.nrrd", replace(labels, array=found.astype(labels.array.dtype))
        )
    panel = support.Panel(shown=None)
    panel.parameters.model = panel.parameters.base = "la-lge-mri"
    panel.widget.segment.choices.refresh()
    return panel


def show(panel: Any, *names: str) -> None:
    """Open these sections and close the others."""
    for name in SECTIONS:
        getattr(panel.ui, name).collapsed = name not in names


def take(panel: Any, folder: Path, scratch: Path) -> None:
    """Every state, in the order of the tutorial."""
    import slicer
    from UGMCLSegmentationLib.panel.improve import ranking
    from UGMCLSegmentationLib.panel.improve.finetuning import curves

    ui = panel.ui
    curves.openCharts = ranking.openSegmentEditor = lambda *_nodes: None
    show(panel, "improveSection")
    improve.open_improve(panel)
    for name, role in zip(NAMES, ROLES, strict=True):
        improve.set_role(panel, name, role)
    ui.modelNameEdit.text = "our-scanner"
    grab_section(panel, "improveSection", folder / "improve-cases.png")
    ui.structuresSection.collapsed = False
    improve.select_rows(panel, NAMES[0])
    ui.finetuneAdvancedSection.collapsed = False
    panel.click("estimateButton")
    improve.finish(panel)
    grab_section(panel, "improveSection", folder / "improve-settings.png")
    ui.structuresSection.collapsed = ui.finetuneAdvancedSection.collapsed = True
    ui.casesTable.clearSelection()

    os.environ.update(FAKE_STEP="0.02", FAKE_MEMORY="1310000000", FAKE_GPU="3170000000")
    panel.widget.logic.trainer.kill()  # a new one reads the speed
    ui.iterationsSpinBox.value = 200
    panel.click("finetuneButton")
    harness.wait_until(lambda: ui.finetuneProgressBar.value >= 45, 60)
    grab_section(panel, "improveSection", folder / "improve-running.png")
    panel.click("cancelFinetuneButton")
    improve.finish(panel)
    grab_section(panel, "improveSection", folder / "improve-resume.png")
    panel.click("resumeButton")
    improve.finish(panel)
    ui.improveLogSection.collapsed = False
    grab_section(panel, "improveSection", folder / "improve-report.png")
    ui.improveLogSection.collapsed = True
    grab_plot(folder / "improve-curves.png")

    ui.nextSection.collapsed = False
    panel.click("rankButton")
    settle(panel)
    first = next(iter(improve.rows(panel)))
    answer_with(panel, scratch / f"{first}-found.nrrd")
    panel.click("openNextButton")
    settle(panel)
    panel.widget.improve.caseList.update()
    grab_section(panel, "improveSection", folder / "improve-next.png")

    show(panel, "evaluateSection")
    reference = slicer.util.getNode("Drawn 7")
    answer_with(panel, scratch / f"{NAMES[6]}-found.nrrd")
    panel.segment(slicer.util.getNode(NAMES[6]))
    ui.referenceSelector.setCurrentNode(reference)
    panel.click("evaluateButton")
    settle(panel)
    grab_section(panel, "evaluateSection", folder / "evaluate.png")
    show(panel, "batchSection", "exportSection")
    answer_with(panel, Path())
    del os.environ["FAKE_LABELS"]
    panel.click("batchButton")
    settle(panel)
    ui.exportAllCheckBox.checked = True
    ui.exportPatternEdit.text = "{name}-{model}"
    ui.exportFolderEdit.currentPath = str(Path(USER) / "segmentations")
    grab_section(panel, "batchSection", folder / "batch.png", last="exportSection")
    show(panel, "improveSection")
    improve.open_improve(panel)
    keep_learning(panel, folder, scratch)


def keep_learning(panel: Any, folder: Path, scratch: Path) -> None:
    """Accept a case, switch Keep learning on, accept another, and let the model take over."""
    ui = panel.ui
    answer_with(panel, scratch / f"{NAMES[2]}-found.nrrd")
    improve.select_rows(panel, NAMES[2])
    panel.click("openNextButton")
    settle(panel)
    panel.click("acceptButton")
    ui.keepLearningCheckBox.checked = True
    harness.wait_until(lambda: "memory" in ui.learningProgressLabel.text, 60)
    answer_with(panel, scratch / f"{NAMES[3]}-found.nrrd")
    panel.click("openNextButton")
    settle(panel)
    panel.click("acceptButton")
    harness.wait_until(lambda: "joined" in ui.improveLogText.toPlainText(), 60)
    panel.click("compareLearningButton")
    harness.wait_until(lambda: not ui.learningModelLabel.isHidden(), 60)
    harness.wait_until(lambda: ui.learningProgressBar.value >= 60, 60)
    panel.widget.improve.caseList.update()
    grab_section(panel, "improveSection", folder / "improve-keep-learning.png")
    panel.click("pauseLearningButton")
    harness.wait_until(lambda: ui.learningProgressLabel.text == "Paused", 60)
    grab_section(panel, "improveSection", folder / "improve-keep-learning-paused.png")
    ui.keepLearningCheckBox.checked = False
    harness.wait_until(lambda: not panel.widget.improve.keepLearning.running, 60)


def answer_with(panel: Any, labels: Path) -> None:
    """Have a new fake worker answer with this file."""
    os.environ["FAKE_LABELS"] = str(labels)
    panel.widget.logic.worker.kill()


def settle(panel: Any) -> None:
    harness.wait_until(lambda: not panel.widget.logic.running, 60)


def grab_plot(path: Path) -> None:
    """The curves as the harness draws them, plainly, side by side."""
    import slicer
    from PIL import Image
    from UGMCLSegmentationLib.panel.improve.finetuning import curves

    parts = []
    for number, chart in enumerate(curves.charts()):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode")
        node.SetPlotChartNodeID(chart.GetID())
        view = slicer.qMRMLPlotView()
        view.setMRMLScene(slicer.mrmlScene)
        view.setMRMLPlotViewNode(node)
        view.resize(*PLOT)
        parts.append(path.with_stem(f"{path.stem}-{number}"))
        view.grab().save(str(parts[-1]))
        view.setMRMLPlotViewNode(None)
        slicer.mrmlScene.RemoveNode(node)
    pictures = [Image.open(part).convert("RGB") for part in parts]
    whole = Image.new("RGB", (sum(p.width for p in pictures), pictures[0].height))
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number * pictures[0].width, 0))
    whole.save(path, optimize=True)
    for part in parts:
        part.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE.parents[1] / "Resources" / "Screenshots"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        panel = open_panel(Path(scratch))
        take(panel, arguments.folder, Path(scratch))
        panel.close()


if __name__ == "__main__":
    main()
