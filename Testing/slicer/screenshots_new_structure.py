"""Pictures of a training from scratch on the sample of CT phantoms, for docs/tutorial.md.

    python Testing/slicer/screenshots_new_structure.py [folder]

The plan is the real one. A fake worker plays the trained model: the last picture shows the panel's
results and not what a model can do.
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
import numpy as np  # noqa: E402
import vtk  # noqa: E402
from screenshots import BACKGROUND, save  # noqa: E402
from screenshots_improve import answer_with, grab_section, settle, show  # noqa: E402

VIEW = 300  # pixels of a view's side
MINUTES = 60
COLOR = (0.86, 0.36, 0.31)


def open_panel(folder: Path) -> Any:
    """The panel with the sample, its spleens drawn in one color, and the real worker."""
    harness.start()
    os.environ["UGMCL_MODELS"] = str(folder / "models")
    panel = support.Panel(command=None, shown=())
    for worker in (panel.widget.logic.worker, panel.widget.logic.trainer):
        worker.helloTimeout = 300.0
    from UGMCLSegmentationLib.scene import sampleData

    for node in sampleData.loadAbdomen():
        if node.GetClassName() == "vtkMRMLSegmentationNode":
            node.GetSegmentation().GetNthSegment(0).SetColor(*COLOR)
            node.GetDisplayNode().SetVisibility(False)
    return panel


def grab_views(target: Path, volume: str, segmentation: Any) -> None:
    """An axial and a coronal slice through the middle of the structure, and its surface."""
    import slicer
    from PIL import Image

    display = segmentation.GetDisplayNode()
    display.SetVisibility(True)
    display.SetOpacity2DFill(0.4)
    segmentation.CreateClosedSurfaceRepresentation()
    node = slicer.util.getNode(volume)
    slicer.util.setSliceViewerLayers(background=node)
    center = middle_of(node, segmentation)
    pictures = []
    for name in ("Red", "Green"):
        view = harness.slice_view(name)
        view.resize(VIEW, VIEW)
        view.fit()
        view.node.JumpSliceByOffsetting(*center)
        harness.process_events()
        pictures.append(target.with_suffix(f".{name}.png"))
        view.grab(pictures[-1])
    view = harness.three_d_view(0)
    view.resize(VIEW, VIEW)
    view.node.SetBoxVisible(False)
    view.node.SetAxisLabelsVisible(False)
    view.fit()
    pictures.append(target.with_suffix(".3D.png"))
    view.grab(pictures[-1])
    gap = 4
    whole = Image.new("RGB", (3 * VIEW + 2 * gap, VIEW), BACKGROUND)
    for number, path in enumerate(pictures):
        whole.paste(Image.open(path).convert("RGB"), (number * (VIEW + gap), 0))
        path.unlink()
    save(whole, target)
    display.SetVisibility(False)


def middle_of(volumeNode: Any, segmentation: Any) -> list[float]:
    """The place in RAS of the voxel of the structure that is nearest to its center, which may lie
    outside of it."""
    import slicer

    name = segmentation.GetSegmentation().GetNthSegmentID(0)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, volumeNode)
    voxels = np.argwhere(mask)
    nearest = voxels[((voxels - voxels.mean(0)) ** 2).sum(1).argmin()]
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return list(matrix.MultiplyPoint((*nearest[::-1].astype(float), 1.0))[:3])


def take(panel: Any, folder: Path, scratch: Path) -> None:
    """The cases, the plan, and the result on a scan that nobody drew in."""
    import scipy.ndimage
    import slicer
    from UGMCLSegmentationLib.panel.improve.finetuning import curves

    from ugmcl_core.data import phantoms, volume

    curves.openCharts = lambda *_nodes: None
    ui = panel.ui
    drawn = slicer.util.getNode("Abdomen 1 segmentation")
    grab_views(folder / "new-structure-drawn.png", "Abdomen 1", drawn)
    show(panel, "improveSection")
    improve.open_improve(panel)
    ui.baseSelector.currentIndex = ui.baseSelector.count - 1  # from scratch
    ui.modelNameEdit.text = "spleen-ct"
    ui.minutesSpinBox.value = MINUTES
    panel.widget.improve.caseList.update()
    grab_section(panel, "improveSection", folder / "new-structure-cases.png")
    ui.finetuneAdvancedSection.collapsed = False
    panel.click("estimateButton")
    improve.finish(panel, 1200)
    grab_section(panel, "finetuneAdvancedSection", folder / "new-structure-plan.png")
    for worker in (panel.widget.logic.worker, panel.widget.logic.trainer):
        worker.command = list(support.FAKE)
        worker.kill()
    ui.minutesSpinBox.value, ui.iterationsSpinBox.value = 0, 40
    panel.click("finetuneButton")
    improve.finish(panel)
    _image, labels = phantoms.abdomen(25)
    found = scipy.ndimage.binary_opening(labels.array, iterations=1)
    labels = replace(labels, array=found.astype(labels.array.dtype))
    volume.write(scratch / "found.nrrd", labels)
    answer_with(panel, scratch / "found.nrrd")
    panel.segment(slicer.util.getNode("Abdomen 5"))
    settle(panel)
    grab_views(folder / "new-structure-result.png", "Abdomen 5", panel.parameters.segmentation)


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
