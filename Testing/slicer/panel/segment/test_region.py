"""A region of interest: the smallest index box that contains it, however it is rotated."""

from __future__ import annotations

import itertools

import module_support as support
import numpy as np
import pytest


def add_region(center, size, rotation=(0, 0, 0, 1), name="Region"):
    import slicer
    import vtk

    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    transform = vtk.vtkTransform()
    transform.Translate(*center)
    transform.RotateWXYZ(*rotation)
    roi.SetAndObserveObjectToNodeMatrix(transform.GetMatrix())
    roi.SetSize(*size)
    return roi


def corners(roi):
    """The ROI's eight corners in world coordinates, from its own axes."""
    import slicer

    matrix = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    half = np.array(roi.GetSize()) / 2
    return [matrix @ np.array([*(np.array(s) * half), 1]) for s in
            itertools.product((-1, 1), repeat=3)]  # fmt: skip


def expected_mask(roi, volume, toVolume=None):
    """Voxels of the smallest index box, found the slow way: voxel by voxel along each axis."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    rasToIjk = slicer.util.arrayFromVTKMatrix(matrix)
    toVolume = np.eye(4) if toVolume is None else toVolume
    places = np.array([(rasToIjk @ toVolume @ c)[:3] for c in corners(roi)])
    size = volume.GetImageData().GetDimensions()
    keep = [
        [places[:, a].min() < n + 0.5 and places[:, a].max() > n - 0.5 for n in range(size[a])]
        for a in range(3)
    ]
    i, j, k = (np.array(v) for v in keep)
    return k[:, None, None] & j[None, :, None] & i[None, None, :]


def center_of(volume):
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    return [(bounds[n] + bounds[n + 1]) / 2 for n in (0, 2, 4)]


@pytest.mark.parametrize("rotation", [(0, 0, 0, 1), (40, 1, 2, 3)])
def test_only_the_smallest_box_is_segmented(panel, monkeypatch, rotation):
    import slicer
    from UGMCLSegmentationLib.scene import results

    monkeypatch.setenv("FAKE_LEVEL", "-1000")  # everything that the worker sees is foreground
    volume = support.add_volume()
    roi = add_region(center_of(volume), (18, 14, 22), rotation)
    panel.select(volume)
    panel.ui.roiSelector.setCurrentNode(roi)
    node = panel.segment()
    mask = expected_mask(roi, volume)
    assert 0 < mask.sum() < mask.size
    assert np.array_equal(support.segment_array(node, volume) > 0, mask)
    distance = slicer.util.arrayFromVolume(results.distanceOf(volume, 1))
    uncertainty = slicer.util.arrayFromVolume(results.uncertaintyOf(volume))
    assert distance.shape == uncertainty.shape == mask.shape
    assert (distance[~mask] == 10.0).all()
    assert (uncertainty[~mask] == 0.0).all()


def test_under_a_transform(panel, monkeypatch):
    import slicer
    import vtk

    monkeypatch.setenv("FAKE_LEVEL", "-1000")
    volume = support.add_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = vtk.vtkTransform()
    moved.Translate(50, 0, -20)
    moved.RotateX(25)
    transform.SetMatrixTransformToParent(moved.GetMatrix())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    roi = add_region(center_of(volume), (18, 14, 22), (15, 0, 1, 1))
    panel.select(volume)
    panel.ui.roiSelector.setCurrentNode(roi)
    node = panel.segment()
    toVolume = np.linalg.inv(slicer.util.arrayFromVTKMatrix(moved.GetMatrix()))
    mask = expected_mask(roi, volume, toVolume)
    assert 0 < mask.sum() < mask.size
    assert np.array_equal(support.segment_array(node, volume) > 0, mask)


def test_partly_outside_is_clipped(panel, monkeypatch):
    monkeypatch.setenv("FAKE_LEVEL", "-1000")
    volume = support.add_volume()
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    roi = add_region(bounds[::2], (40, 40, 40))
    panel.select(volume)
    panel.ui.roiSelector.setCurrentNode(roi)
    mask = expected_mask(roi, volume)
    assert np.array_equal(support.segment_array(panel.segment(), volume) > 0, mask)


def test_outside_and_empty_regions_are_refused(panel):
    import slicer

    volume = support.add_volume()
    panel.select(volume)
    for roi in (add_region((1000, 0, 0), (10, 10, 10)),
                slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Empty")):  # fmt: skip
        panel.ui.roiSelector.setCurrentNode(roi)
        panel.click("segmentButton")
        assert not panel.widget.logic.running
        assert "region" in panel.message
    panel.ui.roiSelector.setCurrentNode(None)
    panel.segment()


def test_a_region_under_a_non_linear_transform_is_refused(panel):
    import slicer

    volume = support.add_volume()
    roi = add_region(center_of(volume), (18, 14, 22))
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    roi.SetAndObserveTransformNodeID(warp.GetID())
    panel.select(volume)
    panel.ui.roiSelector.setCurrentNode(roi)
    panel.click("segmentButton")
    assert not panel.widget.logic.running
    assert "Region" in panel.message and "harden" in panel.message
    assert support.private_folders() == []
    roi.HardenTransform()
    panel.segment()


def test_a_region_made_in_the_panel_fits_the_volume(panel):
    volume = support.add_volume()
    panel.select(volume)
    panel.ui.roiSelector.addNode()
    roi = panel.parameters.roi
    bounds, expected = [0.0] * 6, [0.0] * 6
    roi.GetRASBounds(bounds)
    volume.GetRASBounds(expected)
    assert np.allclose(bounds, expected, atol=1e-3)
