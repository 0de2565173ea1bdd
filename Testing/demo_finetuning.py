"""Fine-tuning through the panel, as the demo shows it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

LABELED, UNLABELED, HOLDOUT = 3, 5, 3  # cases
METHOD, STEPS = "ugmcl-plus", 150
NAME = "demo-tuned"
PATIENCE = 1200.0  # seconds


def run(panel: Any, volumes: list[Any], folder: Path) -> bool:
    """Label the cases, click Fine-tune, wait, and print the report; whether the mean Dice of the
    hold-out cases rose. The new model is selected, whatever the verdict."""
    import harness

    ui = panel.ui
    for number, volume in enumerate(volumes):
        isUnlabeled = LABELED <= number < LABELED + UNLABELED
        if not isUnlabeled:
            label(volume, folder / "cases" / "labels" / f"{volume.GetName()}.nrrd")
    ui.improveSection.collapsed = False
    ui.modelNameEdit.text = NAME
    ui.iterationsSpinBox.value = STEPS
    panel.parameters.base = panel.parameters.model
    panel.parameters.method = METHOD
    book = panel.widget.improve.caseList
    book.update()
    for row in range(LABELED + UNLABELED, len(volumes)):
        selector = ui.casesTable.cellWidget(row, 1)
        selector.currentIndex = selector.findText("Hold-out")
        book.update()
    print(ui.casesLabel.text, flush=True)
    panel.click("finetuneButton")
    told = [""]

    def ended() -> bool:
        text = ui.finetuneProgressLabel.text
        if text.partition(",")[0] != told[0] and ui.finetuneProgressBar.value % 20 == 0:
            told[0] = text.partition(",")[0]
            print(f"  {text}", flush=True)
        return not panel.widget.improve.finetune.running

    harness.wait_until(ended, PATIENCE)
    if ui.reportLabel.isHidden():
        sys.exit(ui.improveMessageLabel.text or "the panel shows no report")
    print(ui.reportLabel.text)
    made = max((folder / "user" / "runs").glob("*/report.html")).parent
    shutil.copyfile(made / "report.html", folder / "report.html")
    harness.grab(panel.loaded.panel, folder / "fine-tuning.png")
    panel.parameters.model = NAME
    cases = json.loads((made / "result.json").read_text())["cases"]
    change = [case["after"]["dice"] - case["before"]["dice"] for case in cases]
    return sum(change) > 0


def label(volume: Any, path: Path) -> None:
    """The phantom's own label, as a segmentation drawn on the volume."""
    import slicer

    labelmap = slicer.util.loadLabelVolume(str(path))
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", f"{volume.GetName()} drawn"
    )
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, node)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().GetNthSegment(0).SetName("left atrium")
    slicer.mrmlScene.RemoveNode(labelmap)
