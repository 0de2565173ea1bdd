"""The generated scans of the Sample Data module."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import module_support as support
import numpy as np
import pytest

from ugmcl_core.data import phantoms


@pytest.fixture
def sources(scene, monkeypatch):
    """What is registered, by the node's name, in a stand-in of Slicer's SampleData module, which
    takes what Slicer's own takes."""
    found: dict[str, dict] = {}

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(
            category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None,
            customDownloader=None, thumbnailFileName=None, loadFileTypes=None, loadFiles=None,
            loadFileProperties=None, checksums=None, loadFileType=None,
        ):  # fmt: skip
            found[nodeNames] = {**locals(), "found": None}

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    panel = support.Panel()  # startupCompleted is emitted
    yield found
    panel.close()


def test_they_are_registered_when_slicer_has_started(sources):
    assert set(sources) == {"UGMCLPhantom", "UGMCLPhantomCohort", "UGMCLAbdomen"}
    for source in sources.values():
        assert source["category"] == "UGMCL Segmentation" and "phantom" in source["sampleName"]
        picture = Path(source["thumbnailFileName"])
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size < 40_000
        kinds = {type(source[k]) for k in ("uris", "fileNames", "nodeNames")}
        assert kinds == {str}  # the three must have one length
        assert "://" not in source["uris"]  # nothing that could be downloaded


def test_without_the_sample_data_module_nothing_happens(scene):
    assert "SampleData" not in sys.modules
    support.Panel().close()


def test_the_scan_is_the_phantom_where_it_lies(sources, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.scene import sampleData

    monkeypatch.setattr(sampleData, "SHAPE", (30, 26, 20))
    monkeypatch.setattr(sampleData, "SPACING", (4.0, 4.0, 3.5))
    (node,) = sources["UGMCLPhantom"]["customDownloader"](object())
    image, _labels = phantoms.phantom(2, (30, 26, 20), (4.0, 4.0, 3.5))
    assert np.array_equal(slicer.util.arrayFromVolume(node), image.array.T)
    matrix = slicer.util.arrayFromVTKMatrix(_ijkToRas(node))
    assert np.allclose(matrix, image.grid.affine)
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert composite.GetBackgroundVolumeID() == node.GetID()


def test_the_cohort_is_enough_for_the_tutorial(sources, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.scene import sampleData

    monkeypatch.setattr(sampleData, "SHAPE", (30, 26, 20))
    monkeypatch.setattr(sampleData, "SPACING", (4.0, 4.0, 3.5))
    nodes = sources["UGMCLPhantomCohort"]["customDownloader"]()
    kinds = [n.GetClassName() for n in nodes]
    assert kinds.count("vtkMRMLScalarVolumeNode") == 8
    assert kinds.count("vtkMRMLSegmentationNode") == 5
    tutorial = (support.HERE.parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert sources["UGMCLPhantomCohort"]["sampleName"] in tutorial
    _image, labels = phantoms.phantom(11, (30, 26, 20), (4.0, 4.0, 3.5))
    volumeNode, segmentationNode = nodes[:2]
    found = slicer.util.arrayFromSegmentBinaryLabelmap(
        segmentationNode, "left_atrium", volumeNode
    )
    assert np.array_equal(found, labels.array.T)


def test_the_abdomens_are_enough_for_the_second_part(sources, monkeypatch):
    import slicer
    from UGMCLSegmentationLib.scene import sampleData

    shape, spacing = (60, 48, 28), (5.0, 5.0, 8.0)
    monkeypatch.setattr(sampleData, "ABDOMEN_SHAPE", shape)
    monkeypatch.setattr(sampleData, "ABDOMEN_SPACING", spacing)
    nodes = sources["UGMCLAbdomen"]["customDownloader"]()
    kinds = [n.GetClassName() for n in nodes]
    assert kinds.count("vtkMRMLScalarVolumeNode") == 8
    assert kinds.count("vtkMRMLSegmentationNode") == 3
    tutorial = (support.HERE.parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert sources["UGMCLAbdomen"]["sampleName"] in tutorial
    image, labels = phantoms.abdomen(21, shape, spacing)
    volumeNode, segmentationNode = nodes[:2]
    assert np.array_equal(slicer.util.arrayFromVolume(volumeNode), image.array.T)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, "spleen", volumeNode)
    assert np.array_equal(found, labels.array.T) and found.any()
    display = volumeNode.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-160.0, 240.0)


def test_nothing_heavy_is_imported_for_them():
    script = (
        f"import sys; sys.path[:0] = [{str(support.HERE)!r}]\n"
        "import harness, module_support as support\n"
        "panel = support.Panel()\n"
        "from UGMCLSegmentationLib.scene import sampleData\n"
        "before = set(sys.modules)\n"
        "sampleData.SHAPE = (20, 20, 16)\n"
        "assert len(sampleData.loadScan()) == 1\n"
        "assert not {'torch', 'safetensors', 'monai'} & set(sys.modules)\n"
        "panel.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          cwd=support.HERE.parents[1], check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def _ijkToRas(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
