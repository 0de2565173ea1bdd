"""Cases that run inside Slicer, started from the module's developer section or by ctest."""

from __future__ import annotations

import unittest
from pathlib import Path

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest


class UGMCLSegmentationTest(ScriptedLoadableModuleTest):
    """Covers the way from a volume to the worker's files, and from its results to the exports.

    A threshold replaces the worker, so that neither a model nor torch is needed.
    """

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def runTest(self) -> None:
        for name in sorted(n for n in dir(self) if n.startswith("test_")):
            self.setUp()
            try:
                getattr(self, name)()
            except unittest.SkipTest as reason:
                print(f"{name} was skipped: {reason}")
        self.setUp()

    def test_resultsAppearOnTheGridOfTheVolume(self) -> None:
        from UGMCLSegmentationLib.scene import results

        volumeNode = _addVolume()
        node = segment(volumeNode)
        expected = slicer.util.arrayFromVolume(volumeNode) > 100
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, "class_1", volumeNode)
        self.assertTrue(np.array_equal(found > 0, expected))
        distance = slicer.util.arrayFromVolume(results.distanceOf(volumeNode, 1))
        self.assertTrue(np.array_equal(distance < 0, expected))
        self.assertIs(results.sourceOf(node), volumeNode)

    def test_overlaysCanBeShownAndHidden(self) -> None:
        from UGMCLSegmentationLib.logic import UGMCLSegmentationLogic
        from UGMCLSegmentationLib.panel.display import appearance
        from UGMCLSegmentationLib.scene import results

        volumeNode = _addVolume()
        node = segment(volumeNode)
        parameters = UGMCLSegmentationLogic().getParameterNode()
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        self.assertTrue(composites, "there are no slice views")
        appearance.showAlone(node)
        for isShown in (True, False):
            parameters.showDistance = parameters.showUncertainty = isShown
            appearance.apply(node, parameters)
            for composite in composites:
                expected = results.distanceOf(volumeNode, 1).GetID() if isShown else None
                self.assertEqual(composite.GetForegroundVolumeID(), expected)
                self.assertEqual(composite.GetNumberOfAdditionalLayers(), 2 * int(isShown))

    def test_exportedFilesHoldTheResult(self) -> None:
        from UGMCLSegmentationLib.panel.export import export
        from UGMCLSegmentationLib.parameters import FORMATS
        from UGMCLSegmentationLib.storage import temporaryFolders

        volumeNode = _addVolume()
        node = segment(volumeNode)
        folder = temporaryFolders.makeFolder()
        paths = [export.export([node], folder, suffix)[0] for suffix in FORMATS]
        self.assertTrue(all(path.stat().st_size > 0 for path in paths))
        loaded = slicer.util.loadVolume(str(paths[0]))
        expected = slicer.util.arrayFromVolume(volumeNode) > 100
        self.assertTrue(np.array_equal(slicer.util.arrayFromVolume(loaded) > 0, expected))
        temporaryFolders.removeFolder(folder)

    def test_theCurvesAppearInAPlotView(self) -> None:
        from UGMCLSegmentationLib.panel.improve.finetuning import curves

        shown = curves.Curves()
        for step in range(1, 4):
            shown.add({"step": step, "losses": {"dice": 1 / step}, "dice": 1 - 1 / step})
        shown.show()
        curves.openCharts()
        charts = [node.GetPlotChartNodeID() for node in
                  slicer.util.getNodesByClass("vtkMRMLPlotViewNode")]  # fmt: skip
        for chart in curves.charts():
            self.assertIn(chart.GetID(), charts)

    def test_theSegmentEditorOpensOnAResult(self) -> None:
        from UGMCLSegmentationLib.panel.improve import ranking

        if not hasattr(slicer.modules, "segmenteditor"):
            self.skipTest("there is no Segment Editor")
        volumeNode = _addVolume()
        node = segment(volumeNode)
        ranking.openSegmentEditor(node, volumeNode)
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        self.assertIs(editor.segmentationNode(), node)

    def test_casesAreListedWithTheirRoles(self) -> None:
        from UGMCLSegmentationLib.panel.improve.cases import cases

        volumeNode = _addVolume()
        case = cases.read(volumeNode, lambda node: False)
        self.assertEqual((case.role, case.problem), (cases.UNLABELED, ""))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        case = cases.read(volumeNode, lambda node: False)
        self.assertEqual((case.role, case.segmentationNode), (cases.LABELED, node))


def _addVolume():
    k, j, i = np.mgrid[-1:1:24j, -1:1:28j, -1:1:32j]
    voxels = (200 * np.exp(-3 * (k**2 + j**2 + i**2))).astype(np.float32)
    ijkToRas = np.diag([-1.5, -1.5, 2.0, 1.0])
    ijkToRas[:3, 3] = (20, 10, -30)
    node = slicer.util.addVolumeFromArray(voxels, ijkToRas, "self test")
    node.CreateDefaultDisplayNodes()
    return node


def segment(volumeNode):
    """Do what a run does, with a threshold instead of the model; returns the segmentation."""
    from UGMCLSegmentationLib.scene import resultNodes, volumes
    from UGMCLSegmentationLib.storage import temporaryFolders
    from UGMCLSegmentationLib.worker.incremental import finish

    folder = temporaryFolders.makeFolder()
    try:
        result = answer(volumeNode, folder)
        return finish(resultNodes.build(result, volumeNode, volumes.fullBox(volumeNode)))
    finally:
        temporaryFolders.removeFolder(folder)


def answer(volumeNode, folder: Path, level: float = 100.0) -> dict:
    """The worker's result for the volume, with its files in `folder`."""
    from UGMCLSegmentationLib.scene import nrrd, volumes
    from UGMCLSegmentationLib.worker.incremental import finish

    voxels, matrix = slicer.util.arrayFromVolume(volumeNode), volumes.ijkToRas(volumeNode)
    files = {
        "labels": (voxels > level).astype(np.uint8),
        "sdf": np.clip((level - voxels) / 10, -10, 10).astype(np.float32),
        "uncertainty": np.exp(-(((voxels - level) / 30) ** 2)).astype(np.float32),
    }
    for name, array in files.items():
        finish(nrrd.write(folder / f"{name}.nrrd", array, matrix))
    terminology = {"scheme": "SCT", "code": "82471001", "meaning": "Left atrium"}
    info = {"value": 1, "name": "left atrium", "color": [0.9, 0.3, 0.3], "volume_ml": 1.0,
            "mean_uncertainty": 0.1, "sdf": str(folder / "sdf.nrrd"),
            "terminology": terminology}  # fmt: skip
    return {
        "labels": str(folder / "labels.nrrd"),
        "uncertainty": str(folder / "uncertainty.nrrd"),
        "classes": [info],
        "sdf_scale_mm": 10.0,
    }
