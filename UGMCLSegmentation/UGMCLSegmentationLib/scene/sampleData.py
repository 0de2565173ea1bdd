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
ABDOMEN = "UGMCLAbdomen"
SHAPE, SPACING = (120, 100, 56), (1.0, 1.0, 1.25)
ABDOMEN_SHAPE, ABDOMEN_SPACING = (128, 104, 56), (2.5, 2.5, 4.0)
_SCAN_SEED, _COHORT_SEEDS, _LABELED = 2, range(11, 19), 5
_ABDOMEN_SEEDS, _SPLEENS = range(21, 29), 3
_CT_WINDOW = (-160.0, 240.0)
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
        (ABDOMEN, _("8 abdomen CT phantoms, 3 spleens segmented"), loadAbdomen),
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
        volumeNode, _labels = _addHeart(_SCAN_SEED, "Phantom")
    slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)
    return [volumeNode]


def loadCohort(_source=None) -> list:
    """Add the eight scans of the tutorial, the first five with a segmentation (two for training
    and three to hold out); returns the nodes."""
    structure = ("left_atrium", _("left atrium"))
    return _addCohort(_COHORT_SEEDS, _addHeart, "Phantom", structure, _LABELED)


def loadAbdomen(_source=None) -> list:
    """Add the eight scans of the tutorial's second part, the first three with a segmentation of
    the spleen; returns the nodes."""
    structure = ("spleen", _("spleen"))
    return _addCohort(_ABDOMEN_SEEDS, _addAbdomen, "Abdomen", structure, _SPLEENS)


def _addCohort(seeds, add, name: str, structure: tuple[str, str], labeled: int) -> list:
    nodes = []
    with slicer.util.WaitCursor():
        for number, seed in enumerate(seeds):
            volumeNode, labels = add(seed, f"{name} {number + 1}")
            nodes.append(volumeNode)
            if number < labeled:
                nodes.append(_addSegmentation(volumeNode, labels, *structure))
    slicer.util.setSliceViewerLayers(background=nodes[0], fit=True)
    return nodes


def _addHeart(seed: int, name: str) -> tuple:
    """Add a scan; returns its node and its labels as a k, j, i array."""
    import numpy as np

    from ugmcl_core.data import phantoms

    image, labels = phantoms.phantom(seed, SHAPE, SPACING)
    return _add(image, labels, name, np.percentile(image.array, (1, 99.5)))


def _addAbdomen(seed: int, name: str) -> tuple:
    """The same of the abdomen."""
    from ugmcl_core.data import phantoms

    image, labels = phantoms.abdomen(seed, ABDOMEN_SHAPE, ABDOMEN_SPACING)
    return _add(image, labels, name, _CT_WINDOW)


def _add(image, labels, name: str, window) -> tuple:
    import numpy as np

    voxels = np.ascontiguousarray(image.array.T)
    node = slicer.util.addVolumeFromArray(voxels, image.grid.affine, name)
    node.CreateDefaultDisplayNodes()
    low, high = window
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(float(low), float(high))
    return node, np.ascontiguousarray(labels.array.T)


def _addSegmentation(volumeNode, labels, identifier: str, text: str):
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", _("{name} segmentation").format(name=volumeNode.GetName())
    )
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    segment = node.GetSegmentation().AddEmptySegment(identifier, text)
    slicer.util.updateSegmentBinaryLabelmapFromArray(labels, node, segment, volumeNode)
    return node
