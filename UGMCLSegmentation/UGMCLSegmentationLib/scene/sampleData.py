"""Generated scans in Slicer's Sample Data module. Nothing is downloaded.

Slicer registers them at every start, so NumPy and the generator are imported only to load one.
"""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

CATEGORY = "UGMCL Segmentation"
SCAN = "UGMCLPhantom"
COHORT = "UGMCLPhantomCohort"
SHAPE, SPACING = (120, 100, 56), (1.0, 1.0, 1.25)
_SCAN_SEED, _COHORT_SEEDS, _LABELED = 2, range(11, 19), 5
_ICONS = Path(__file__).resolve().parents[2] / "Resources" / "Icons"


def register() -> None:
    """Add the samples to the Sample Data module, if this Slicer has it."""
    try:
        import SampleData
    except ImportError:
        return
    for name, text, download in (
        (SCAN, _("Heart phantom"), loadScan),
        (COHORT, _("8 heart phantoms, 5 segmented"), loadCohort),
    ):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=text,
            uris=f"generated:{name}",
            fileNames=f"{name}.nrrd",
            nodeNames=name,
            customDownloader=download,
            thumbnailFileName=str(_ICONS / f"{name}.png"),
        )


def loadScan(_source=None) -> list:
    """Add one generated scan and show it in the slice views; returns the nodes."""
    with slicer.util.WaitCursor():
        volumeNode, _labels = _add(_SCAN_SEED, "Phantom")
    slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)
    return [volumeNode]


def loadCohort(_source=None) -> list:
    """Add the eight scans of the tutorial, the first five with a segmentation (two for training
    and three to hold out); returns the nodes."""
    nodes = []
    with slicer.util.WaitCursor():
        for number, seed in enumerate(_COHORT_SEEDS):
            volumeNode, labels = _add(seed, f"Phantom {number + 1}")
            nodes.append(volumeNode)
            if number < _LABELED:
                nodes.append(_addSegmentation(volumeNode, labels))
    slicer.util.setSliceViewerLayers(background=nodes[0], fit=True)
    return nodes


def _add(seed: int, name: str) -> tuple:
    """Add a scan; returns its node and its labels as a k, j, i array."""
    import numpy as np

    from ugmcl_core.data import phantoms

    image, labels = phantoms.phantom(seed, SHAPE, SPACING)
    voxels = np.ascontiguousarray(image.array.T)
    node = slicer.util.addVolumeFromArray(voxels, image.grid.affine, name)
    node.CreateDefaultDisplayNodes()
    low, high = np.percentile(voxels, (1, 99.5))
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(float(low), float(high))
    return node, np.ascontiguousarray(labels.array.T)


def _addSegmentation(volumeNode, labels):
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", _("{name} segmentation").format(name=volumeNode.GetName())
    )
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    segment = node.GetSegmentation().AddEmptySegment("left_atrium", _("left atrium"))
    slicer.util.updateSegmentBinaryLabelmapFromArray(labels, node, segment, volumeNode)
    return node
