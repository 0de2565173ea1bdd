"""The scene around the module: saving and loading, closing, and nothing left behind."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import harness
import module_support as support
import numpy as np
import pytest


@pytest.mark.parametrize("kind", ["scene.mrb", "folder"])
def test_state_survives_saving_and_loading(panel, tmp_path, kind):
    import slicer
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    view = harness.slice_view("Red")
    view.composite.SetBackgroundVolumeID(volume.GetID())

    node = panel.segment(volume)
    voxels = support.segment_array(node, volume).copy()
    panel.ui.passesSpinBox.value = 5
    panel.ui.showDistanceCheckBox.checked = True
    panel.ui.showUncertaintyCheckBox.checked = True
    panel.ui.uncertaintyOpacitySlider.value = 0.35
    panel.ui.exportAllCheckBox.checked = True
    panel.ui.deviceSelector.currentIndex = panel.ui.deviceSelector.findData("cpu")
    view.fit()
    offset = view.logic.GetSliceOffset()
    picture = view.pixels().astype(int)
    path = tmp_path / kind
    assert harness.save_scene(path)
    path = next(path.glob("*.mrml")) if path.is_dir() else path
    slicer.mrmlScene.Clear(False)
    assert harness.load_scene(path)

    parameters = panel.parameters
    volume, node = parameters.inputVolume, parameters.segmentation
    assert volume.GetName() == "scan" and node is not None
    assert np.array_equal(support.segment_array(node, volume), voxels)
    assert (parameters.passes, parameters.device, parameters.model) == (5, "cpu", "fake")
    assert panel.ui.passesSpinBox.value == 5 and panel.ui.exportAllCheckBox.checked
    assert panel.ui.deviceSelector.itemData(panel.ui.deviceSelector.currentIndex) == "cpu"
    assert "left atrium" in panel.ui.statisticsLabel.text
    assert results.sourceOf(node) is volume
    composite = view.composite
    assert composite.GetForegroundVolumeID() == results.distanceOf(volume, 1).GetID()
    assert composite.GetNumberOfAdditionalLayers() == 2
    assert composite.GetNthLayerVolume(4).GetName() == "Uncertainty in slices"
    assert composite.GetNthLayerOpacity(4) == pytest.approx(0.35)
    for found in (results.distanceOf(volume, 1), results.uncertaintyOf(volume)):
        assert found.GetDisplayNode().GetColorNode().GetNumberOfColors() == 256
    view.fit()
    view.logic.SetSliceOffset(offset)
    assert np.abs(view.pixels().astype(int) - picture).mean() < 2
    # the loaded result counts as unedited, and is updated
    assert panel.segment() is node


def test_edits_are_noticed_across_saving_and_loading(panel, tmp_path):
    import slicer

    volume = support.add_volume()
    node = panel.segment(volume)
    edited = support.segment_array(node, volume).copy()
    edited[:, :, :4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        edited.astype(np.uint8), node, "class_1", volume
    )
    assert harness.save_scene(tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(False)
    assert harness.load_scene(tmp_path / "scene.mrb")
    node, volume = panel.parameters.segmentation, panel.parameters.inputVolume
    assert panel.segment() is not node
    assert np.array_equal(support.segment_array(node, volume) > 0, edited > 0)


def test_ten_runs_leave_no_more_nodes_than_one(panel):
    import slicer

    volume = support.add_volume()
    panel.parameters.showDistance = panel.parameters.showUncertainty = True
    panel.segment(volume)
    after_one = support.node_counts()
    for _ in range(9):
        panel.segment()
    assert support.node_counts() == after_one
    assert support.private_folders() == []
    slicer.mrmlScene.Clear(False)
    harness.process_events(50)
    closed = support.node_counts()
    panel.parameters.model = "fake"
    panel.parameters.showDistance = panel.parameters.showUncertainty = True
    panel.parameters.showSurfaceError = False
    panel.segment(support.add_volume())
    assert support.node_counts() == after_one
    slicer.mrmlScene.Clear(False)
    harness.process_events(50)
    assert support.node_counts() == closed


def test_removing_results_takes_their_displays_along(panel, monkeypatch):
    volume = support.add_volume()
    panel.parameters.showDistance = panel.parameters.showUncertainty = True
    panel.segment(volume)
    before = support.node_counts()
    panel.ui.passesSpinBox.value = 0
    panel.segment()  # no uncertainty volume now
    panel.ui.passesSpinBox.value = 4
    panel.segment()
    assert support.node_counts() == before


def test_the_widget_dies_with_its_panel(scene):
    panel = support.Panel()
    panel.segment(support.add_volume())
    panel.click("nextSpotButton")
    dead = [weakref.ref(o) for o in (panel.widget, panel.widget.logic, panel.widget.display,
                                     panel.widget.logic.worker)]  # fmt: skip
    panel.close()
    gc.collect()
    assert [reference() for reference in dead] == [None] * len(dead)


def test_reloading_the_module(panel):
    import sys

    panel.segment(support.add_volume())
    old = sys.modules["UGMCLSegmentationLib.logic"]
    panel.loaded.reload()
    assert sys.modules["UGMCLSegmentationLib.logic"] is not old
    panel.widget.logic.worker.command = support.FAKE
    assert panel.parameters.segmentation is not None
    panel.segment()


def test_reload_executes_every_file_again(scene, tmp_path):
    """A changed file in a sub-package is picked up; the panel's classes are new, too."""
    import sys

    place = tmp_path / "UGMCLSegmentation"
    shutil.copytree(support.ENTRY.parent, place, ignore=shutil.ignore_patterns("__pycache__"))
    path = [p for p in sys.path if Path(p) != support.ENTRY.parent]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(place), *path])
        for name in [n for n in sys.modules if n.split(".")[0] == "UGMCLSegmentationLib"]:
            patch.delitem(sys.modules, name)
        loaded = harness.load_module(place / support.ENTRY.name)
        old = type(loaded.widget.display)
        file = place / "UGMCLSegmentationLib" / "panel" / "display" / "surfaces.py"
        file.write_text(file.read_text(encoding="utf-8") + "\nCHANGED = True\n")
        loaded.reload()
        from UGMCLSegmentationLib.panel.display import surfaces

        assert surfaces.CHANGED and Path(surfaces.__file__) == file
        assert type(loaded.widget.display) is not old
        loaded.unload()
        for name in [n for n in sys.modules if n.split(".")[0] == "UGMCLSegmentationLib"]:
            del sys.modules[name]


def test_leaving_and_entering_again(panel):
    panel.segment(support.add_volume())
    node = panel.parameters.segmentation
    panel.loaded.exit()
    panel.loaded.enter()
    assert panel.parameters.segmentation is node
    panel.segment()


def test_a_result_volume_is_not_chosen_and_is_refused(panel):
    import slicer
    from UGMCLSegmentationLib.scene import results

    other, volume = support.add_volume(name="other"), support.add_volume()
    panel.segment(volume)
    distance, before = results.distanceOf(volume, 1), support.result_nodes()
    slicer.util.arrayFromVolume(distance)[:3] = 200  # for the model to find something in
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(distance.GetID())
    assert panel.widget.logic.firstVolume() is other
    for role in (distance, results.uncertaintyOf(volume)):
        panel.select(role)
        panel.click("segmentButton")
        assert not panel.widget.logic.running
        assert role.GetName() in panel.message and "clone" in panel.message
    assert support.result_nodes() == before
    clone = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, distance, "clone")
    own = panel.segment(clone)
    assert results.sourceOf(own) is clone
    # the clone is in the views, but it is no scan
    assert panel.widget.logic.firstVolume() is other


@pytest.mark.parametrize("role", ["distance", "uncertainty"])
def test_a_clone_whose_original_is_gone_stays_as_it_is(panel, role):
    import slicer
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    node = panel.segment(volume)
    (original,) = results.find(role, volume)
    clone = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, original, "clone")
    slicer.mrmlScene.RemoveNode(original)
    slicer.util.arrayFromVolume(clone)[:] = 77
    assert panel.segment(volume) is node
    (again,) = results.find(role, volume)
    assert again is not clone and not results.isResultVolume(clone)
    assert (slicer.util.arrayFromVolume(clone) == 77).all()
    panel.ui.passesSpinBox.value = 0
    panel.segment(volume)
    assert slicer.util.getNode("clone") is clone
    assert (slicer.util.arrayFromVolume(clone) == 77).all()


@pytest.mark.parametrize("kind", ["scene.mrb", "folder"])
def test_results_and_clones_survive_an_import_that_renumbers_them(panel, tmp_path, kind):
    import slicer
    from UGMCLSegmentationLib.scene import results

    panel.segment(support.add_volume())
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    for _overlay, node in results.overlayVolumes():
        slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, node, "clone")
        slicer.vtkSlicerSubjectHierarchyModuleLogic.CloneSubjectHierarchyItem(
            tree, tree.GetItemByDataNode(node), "clone"
        )
    path = tmp_path / kind
    assert harness.save_scene(path)
    path = next(path.glob("*.mrml")) if path.is_dir() else path
    slicer.mrmlScene.Clear(False)
    own = support.add_volume(name="own")
    panel.parameters.model = "fake"
    panel.segment(own)
    roles = ("distance", "uncertainty", "surfaceError")
    before = {role: results.find(role) for role in roles}
    assert harness.load_scene(path, clear=False)
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert len([node for node in volumes if not node.GetHideFromEditors()]) == 14
    scan = slicer.util.getNode("scan")
    for role, nodes in before.items():
        assert results.find(role, own) == nodes and len(nodes) == 1
        (imported,) = results.find(role, scan)
        assert imported not in nodes and not imported.GetName().startswith("clone")
        assert results.find(role) == [*nodes, imported]
        assert not results.isResultVolume(results.sourceOf(imported))
    panel.select(results.distanceOf(scan, 1))
    panel.click("segmentButton")
    assert not panel.widget.logic.running and "is a result" in panel.message
    counts = support.node_counts()
    panel.segment(scan)
    assert support.node_counts() == counts


def test_no_result_takes_the_place_of_a_removed_volume(panel):
    import slicer

    volumes = [support.add_volume(name=name) for name in ("a", "b")]
    panel.segment(volumes[0])
    panel.segment(volumes[1])
    slicer.mrmlScene.RemoveNode(volumes[1])
    assert panel.parameters.inputVolume is volumes[0]
    assert panel.ui.inputVolumeSelector.currentNode() is volumes[0]
    slicer.mrmlScene.RemoveNode(volumes[0])
    assert panel.parameters.inputVolume is None
    assert panel.ui.inputVolumeSelector.currentNode() is None
    assert not panel.ui.segmentButton.enabled


def test_non_linear_transforms_are_refused(panel):
    import slicer

    volume = support.add_volume()
    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    volume.SetAndObserveTransformNodeID(grid.GetID())
    panel.select(volume)
    panel.click("segmentButton")
    assert not panel.widget.logic.running
    assert "harden" in panel.message
    volume.SetAndObserveTransformNodeID(None)
    panel.segment()


@pytest.mark.parametrize(
    ("fault", "words"),
    [("empty", "empty"), ("vector", "components"), ("flat", "single slice"),
     ("huge", "spacing"), ("sheared", "right angles")],
)  # fmt: skip
def test_unusable_volumes_are_refused(panel, fault, words):
    import slicer

    volume = support.add_volume()
    if fault == "empty":
        volume.SetAndObserveImageData(None)
    elif fault == "vector":
        volume.GetImageData().AllocateScalars(3, 3)
    elif fault == "huge":
        volume.SetSpacing(1.0, 1.0, 101.0)
    elif fault == "sheared":
        matrix = support.matrix()
        matrix[:3, 2] += 0.2 * matrix[:3, 1]
        volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    else:
        slicer.util.updateVolumeFromArray(volume, support.blob((20, 20, 1)))
    panel.select(volume)
    panel.click("segmentButton")
    assert not panel.widget.logic.running
    assert words in panel.message and "scan" in panel.message
    assert "/" not in panel.message.replace("Scalar/Vector/DWI", "")  # the path of no file
    assert support.private_folders() == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


@pytest.mark.parametrize("shear", [0.0, 1.9e-3, 2.1e-3])
@pytest.mark.parametrize("spacing", [0.9e-6, 1.1e-6, 99.9, 100.1])
def test_axes_that_the_worker_refuses_are_refused_before(scene, tmp_path, spacing, shear):
    from UGMCLSegmentationLib.errors import PanelError
    from UGMCLSegmentationLib.scene import volumes

    from ugmcl_core.data.volume import read
    from ugmcl_core.errors import InputError

    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[0, 1] = shear * spacing
    volume = support.add_volume(support.blob((4, 4, 4)), matrix)
    for _step in volumes.write(volume, volumes.fullBox(volume), tmp_path / "image.nrrd"):
        pass
    refused = []
    for look in (lambda: volumes.check(volume), lambda: read(tmp_path / "image.nrrd")):
        try:
            look()
            refused.append(False)
        except (PanelError, InputError):
            refused.append(True)
    assert refused[0] or not refused[1]
    assert refused[0] == (not 1e-6 < spacing < 100 or shear > 2e-3)
