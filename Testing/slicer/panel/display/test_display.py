"""Overlays in the rendered slice and 3D views, together and apart."""

from __future__ import annotations

import harness
import module_support as support
import numpy as np
import pytest

TOGGLES = ("showSegmentation", "showDistance", "showUncertainty")


@pytest.fixture
def shown(panel):
    """A panel with a result, all overlays off, a window that keeps the scan gray."""
    volume = support.add_volume()
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(-20, 220)
    panel.segment(volume)
    for name in (*TOGGLES, "showLegends", "showSurface"):
        setattr(panel.parameters, name, False)
    view = harness.slice_view("Red")
    view.fit()
    return panel, view


def is_colored(pixels):
    return (np.ptp(pixels.astype(int), axis=2) > 12).mean()


def test_nothing_but_the_scan_without_toggles(shown):
    _panel, view = shown
    pixels = view.pixels()
    assert pixels.max() > 100
    assert is_colored(pixels) == 0


@pytest.mark.parametrize("name", TOGGLES)
def test_each_overlay_alone(shown, name):
    panel, view = shown
    off = view.pixels()
    box = getattr(panel.ui, f"{name}CheckBox")
    box.checked = True
    on = view.pixels()
    assert is_colored(on) > 0.02
    assert (on != off).any(axis=2).mean() > 0.02
    box.checked = False
    assert np.array_equal(view.pixels(), off)


def test_distance_is_blue_inside_and_red_outside(shown):
    panel, view = shown
    panel.parameters.showDistance = True
    panel.parameters.distanceOpacity = 1.0
    pixels = view.pixels().astype(int)
    middle = np.argwhere(inside(view, panel))
    red, blue = pixels[..., 0], pixels[..., 2]
    y, x = middle.mean(axis=0).astype(int)
    assert blue[y, x] > red[y, x] + 40
    assert ((red > blue + 40).sum()) > 500


def inside(view, panel):
    """Where the segmentation is in the view, by what it changes."""
    panel.parameters.showDistance = False
    off = view.pixels()
    panel.parameters.showSegmentation = True
    on = view.pixels()
    panel.parameters.showSegmentation = False
    panel.parameters.showDistance = True
    return (on != off).any(axis=2)


def test_all_overlays_together_and_which_layer_is_where(shown):
    from UGMCLSegmentationLib.scene import results

    panel, view = shown
    volume = panel.parameters.inputVolume
    alone = {}
    for name in TOGGLES:
        setattr(panel.parameters, name, True)
        alone[name] = view.pixels()
        setattr(panel.parameters, name, False)
    for name in TOGGLES:
        setattr(panel.parameters, name, True)
    together = view.pixels()
    assert all((together != picture).any() for picture in alone.values())
    composite = view.composite
    assert composite.GetBackgroundVolumeID() == volume.GetID()
    assert composite.GetForegroundVolumeID() == results.distanceOf(volume, 1).GetID()
    assert composite.GetForegroundOpacity() == 0.0  # the data probe reads it
    assert layers(composite) == ["Distance in slices", "Uncertainty in slices"]
    panel.parameters.showUncertainty = False
    assert layers(composite) == ["Distance in slices"]
    panel.parameters.showDistance = False
    assert layers(composite) == [] and not composite.GetForegroundVolumeID()


def test_a_very_large_overlay_is_shown_as_it_is(shown, monkeypatch):
    from UGMCLSegmentationLib.panel.display import pictures
    from UGMCLSegmentationLib.scene import results

    panel, view = shown
    volume = panel.parameters.inputVolume
    voxels = volume.GetImageData().GetNumberOfPoints()
    monkeypatch.setattr(pictures, "MOST", voxels - 1)
    off = view.pixels()
    panel.parameters.showUncertainty = True
    own = results.uncertaintyOf(volume, panel.parameters.segmentation)
    assert layers(view.composite) == ["Uncertainty in slices"], "its visible part is smaller"
    for name, most in (("MOST", 1000), ("MOST_SEARCHED", voxels - 1)):
        panel.parameters.showUncertainty = False
        monkeypatch.setattr(pictures, "MOST", voxels)
        monkeypatch.setattr(pictures, name, most)
        panel.parameters.showUncertainty = True
        assert layers(view.composite) == [own.GetName()]
    assert (view.pixels() != off).any(axis=2).mean() > 0.02
    panel.parameters.showUncertainty = False
    assert layers(view.composite) == [] and np.array_equal(view.pixels(), off)


def layers(composite) -> list[str]:
    """The names of the additional layers."""
    numbers = range(3, 3 + composite.GetNumberOfAdditionalLayers())
    return [composite.GetNthLayerVolume(n).GetName() for n in numbers]


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [("showUncertainty", "uncertaintyOf", (0.2, 0.5, 1.0)),
     ("showSurfaceError", "surfaceErrorOf", (0.5, 1.5, 3.0)),
     ("showDistance", "distanceOf", (0.0, -4.0, -9.0))],
)  # fmt: skip
def test_the_opacity_rises_with_the_value(shown, name, field, values):
    """By what it hides: two gray values under the overlay differ the less, the higher it is."""
    import slicer
    from UGMCLSegmentationLib.scene import results

    panel, view = shown
    scan = panel.parameters.inputVolume
    voxels = slicer.util.arrayFromVolume(scan)
    find = getattr(results, field)
    node = find(scan, 1) if field == "distanceOf" else find(scan)
    array = slicer.util.arrayFromVolume(node)
    parts = np.array_split(np.arange(array.shape[2]), 3)
    for value, columns in zip(values, parts, strict=True):
        array[:, :, columns] = value
    slicer.util.arrayFromVolumeModified(node)
    setattr(panel.parameters, name, True)
    pictures = []
    for gray in (0.0, 200.0):
        voxels[:] = gray
        slicer.util.arrayFromVolumeModified(scan)
        pictures.append(view.pixels().astype(int))
    contrast = np.abs(pictures[1] - pictures[0]).max(axis=2)
    used = np.flatnonzero(contrast.max(axis=0))
    middle = contrast[contrast.shape[0] // 2, used[0] : used[-1] + 1]
    seen = [np.median(part[3:-3]) for part in np.array_split(middle, 3)]
    first, second, third = seen if seen[0] > seen[2] else seen[::-1]  # the view may be mirrored
    assert first > second + 15 > third + 30


def test_layers_and_foregrounds_of_others_are_left_alone(shown):
    panel, view = shown
    other = support.add_volume(name="other")
    view.composite.SetForegroundVolumeID(other.GetID())
    view.composite.SetNthLayerVolumeID(3, other.GetID())
    panel.parameters.showSegmentation = True
    assert view.composite.GetForegroundVolumeID() == other.GetID()
    panel.parameters.showDistance = panel.parameters.showUncertainty = True
    assert layers(view.composite) == ["other", "Distance in slices", "Uncertainty in slices"]
    panel.parameters.showDistance = panel.parameters.showUncertainty = False
    assert view.composite.GetNthLayerVolume(3) is other


@pytest.mark.parametrize(
    ("name", "slider"),
    [("showSegmentation", "segmentationOpacity"), ("showDistance", "distanceOpacity"),
     ("showUncertainty", "uncertaintyOpacity")],
)  # fmt: skip
def test_opacity_changes_the_picture(shown, name, slider):
    panel, view = shown
    setattr(panel.parameters, name, True)
    widget = getattr(panel.ui, f"{slider}Slider")
    pictures = []
    for value in (0.15, 0.9):
        widget.value = value
        assert getattr(panel.parameters, slider) == pytest.approx(value)
        pictures.append(view.pixels().astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() > 60


def test_a_new_user_sees_the_surface_and_its_error(scene):
    panel = support.Panel(shown=None)
    from UGMCLSegmentationLib.scene import overlays, results

    try:
        volume = support.add_volume()
        panel.segment(volume)
        (error,) = results.find(overlays.SURFACE_ERROR, volume)
        ticked = [o.role for o in overlays.OVERLAYS if getattr(panel.ui, o.checkBox).checked]
        assert ticked == ["surfaceError"] and panel.ui.showSegmentationCheckBox.checked
        view = harness.slice_view("Red")
        assert view.composite.GetForegroundVolumeID() == error.GetID()
        assert layers(view.composite) == ["Surface error in slices"]
        assert panel.ui.surfaceErrorOpacitySlider.value == pytest.approx(0.75)
        with_error = view.pixels()
        panel.ui.showSurfaceErrorCheckBox.checked = False
        assert (with_error != view.pixels()).any()
    finally:
        panel.close()


def test_the_surface_has_the_colors_of_its_error(scene):
    import slicer
    import vtk

    panel = support.Panel(shown=None)
    from UGMCLSegmentationLib.panel.display import coloredSurface
    from UGMCLSegmentationLib.scene import results

    try:
        volume = support.add_volume()
        result = panel.segment(volume)
        view = harness.three_d_view(0)
        colored = view.pixels()
        model = coloredSurface.find()
        assert model is not None and not result.GetDisplayNode().GetVisibility3D()
        assert not model.GetSaveWithScene() and model.GetHideFromEditors()
        surface = model.GetPolyData()
        values = slicer.util.arrayFromModelPointData(model, "SurfaceError")
        error = slicer.util.arrayFromVolume(results.surfaceErrorOf(volume))
        rasToIjk = vtk.vtkMatrix4x4()
        volume.GetRASToIJKMatrix(rasToIjk)
        assert surface.GetNumberOfPoints() > 50
        for n in range(0, surface.GetNumberOfPoints(), 17):
            i, j, k = rasToIjk.MultiplyPoint((*surface.GetPoint(n), 1.0))[:3]
            i, j, k = int(np.floor(i)), int(np.floor(j)), int(np.floor(k))
            assert values[n] == error[k : k + 2, j : j + 2, i : i + 2].max() > 0
        panel.ui.showSurfaceErrorCheckBox.checked = False
        assert coloredSurface.find() is None and result.GetDisplayNode().GetVisibility3D()
        assert (colored != view.pixels()).any()
        panel.ui.showSurfaceErrorCheckBox.checked = True
        assert coloredSurface.find() is not None
        panel.ui.showSurfaceCheckBox.checked = False
        assert coloredSurface.find() is None and not result.GetDisplayNode().GetVisibility3D()
        panel.ui.showSurfaceCheckBox.checked = True
        array = support.segment_array(result, volume).astype(np.uint8)
        array[:, :, : array.shape[2] // 2] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, result, "class_1", volume)
        assert coloredSurface.find() is None, "an edited surface is plain"
        assert result.GetDisplayNode().GetVisibility3D()
        panel.loaded.exit()
        panel.loaded.enter()
        model = coloredSurface.find()
        values = slicer.util.arrayFromModelPointData(model, "SurfaceError")
        points = slicer.util.arrayFromModelPoints(model)
        i = [rasToIjk.MultiplyPoint((*point, 1.0))[0] for point in points]
        isCut = np.array(i) < array.shape[2] // 2  # the new surface; its rim is rounded
        assert np.isnan(values[isCut]).mean() > 0.9, "no error of the run's surface"
        assert not np.isnan(values[~isCut]).all()
        slicer.mrmlScene.Clear(False)
        harness.process_events(50)
        assert coloredSurface.find() is None
    finally:
        panel.close()


def test_legends_of_what_is_shown(shown):
    panel, view = shown
    view.resize(600, 600)
    panel.parameters.showDistance = panel.parameters.showSurfaceError = True
    without = view.pixels()
    panel.ui.showLegendsCheckBox.checked = True
    both = view.pixels() != without
    half = both.shape[0] // 2
    assert both[:half].any() and both[half:].any()
    panel.parameters.showSurfaceError = False
    one = view.pixels()
    panel.ui.showLegendsCheckBox.checked = False
    change = one != view.pixels()
    assert change[:half].any() and not change[half + 20 :].any()
    panel.parameters.showDistance, panel.parameters.showSurfaceError = False, True
    off = view.pixels()
    panel.ui.showLegendsCheckBox.checked = True
    change = view.pixels() != off
    assert change[:half].any() and not change[half + 20 :].any(), "the only one is at the top"


def test_the_surface_has_a_legend_in_3d(shown):
    import slicer
    from UGMCLSegmentationLib.panel.display import coloredSurface

    panel, red = shown
    view = harness.three_d_view(0)
    view.resize(400, 400)
    panel.parameters.showSurface = panel.parameters.showSurfaceError = True
    panel.parameters.showLegends = False
    green = harness.slice_view("Green")
    without, slices, others = view.pixels(), red.pixels(), green.pixels()
    panel.parameters.showLegends = True
    change = (view.pixels() != without).any(axis=2)
    assert change[:200, 200:].any() and not change[:, :200].any(), "at the upper right"
    assert (red.pixels() != slices).any() and not (green.pixels() != others).any()
    logic = slicer.modules.colors.logic()
    own = logic.GetColorLegendDisplayNode(coloredSurface.find())
    assert own.GetTitleText() == "Surface error (mm)" and not own.GetSaveWithScene()
    panel.parameters.showSurface = False
    assert coloredSurface.find() is None and own.GetScene() is None


def test_legends_are_in_one_view_of_the_layout(shown):
    """Three times the same would fill small views with text."""
    import slicer

    panel, red = shown
    green, yellow = harness.slice_view("Green"), harness.slice_view("Yellow")
    panel.parameters.showDistance = panel.parameters.showUncertainty = True

    def views_with_legends():
        pictures = []
        for isShown in (False, True):
            panel.ui.showLegendsCheckBox.checked = isShown
            pictures.append([view.pixels() for view in (red, green, yellow)])
        return [bool((a != b).any()) for a, b in zip(*pictures, strict=True)]

    assert views_with_legends() == [True, False, False]
    manager, kinds = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    manager.setLayout(kinds.SlicerLayoutOneUpYellowSliceView)
    legends = [n for n in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
               if n.GetVisibility()]  # fmt: skip
    assert [n.GetViewNodeIDs() for n in legends] == [(yellow.node.GetID(),)] * 2
    assert views_with_legends() == [False, False, True]
    manager.setLayout(kinds.SlicerLayoutFourUpView)
    assert views_with_legends() == [True, False, False]


def test_the_legend_calls_zero_zero(shown):
    import slicer

    panel, _view = shown
    panel.parameters.showDistance = panel.parameters.showLegends = True
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(
        slicer.util.getNode("scan distance")
    )
    texts = [legend.GetLabelFormat() % value for value in (-10.0, -5.0, 0.0, 5.0, 10.0)]
    assert texts == ["-10", "-5", "0", "5", "10"]


def test_surface_in_3d(shown):
    panel, _view = shown
    view = harness.three_d_view(0)
    off = view.pixels()
    panel.ui.showSurfaceCheckBox.checked = True
    view.fit()
    assert (view.pixels() != off).any(axis=2).mean() > 0.01


def test_walking_through_the_spots(panel):
    import slicer
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    panel.segment(volume)
    node = results.surfaceErrorOf(volume)
    array = slicer.util.arrayFromVolume(node)
    array[:] = 0
    array[4:28, 4:28, 4:28] = 1.0  # the surface is sure ...
    array[4:8, 5:9, 6:10] = 3.0  # ... but for these
    array[20:24, 20:26, 20:26] = 5.0
    slicer.util.arrayFromVolumeModified(node)
    red = harness.slice_view("Red").node
    seen = []
    for number in (1, 2, 1):
        panel.click("nextSpotButton")
        assert f"Spot {number} of 2" in panel.ui.spotLabel.text
        seen.append(center_of(red, volume))
    assert seen[0] == seen[2]
    i, j, k = seen[0]
    assert 20 <= i < 26 and 20 <= j < 26 and 20 <= k < 24
    i, j, k = seen[1]
    assert 6 <= i < 10 and 5 <= j < 9 and 4 <= k < 8
    assert "up to 5.0 mm" in panel.ui.spotLabel.text


def center_of(viewNode, volume) -> tuple[int, ...]:
    """The voxel (i, j, k) of the volume in the center of a slice view."""
    import slicer

    matrix = slicer.util.arrayFromVTKMatrix
    center = matrix(viewNode.GetSliceToRAS())[:, 3]
    return tuple(np.round((np.linalg.inv(matrix(matrix_of(volume))) @ center)[:3]).astype(int))


def matrix_of(volume):
    import vtk

    ijkToRas = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(ijkToRas)
    return ijkToRas


def test_a_checked_spot_is_passed_over_and_stays_checked(panel):
    import qt
    import slicer
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    result = panel.segment(volume)
    array = np.zeros(support.blob().shape, np.float32)
    array[4:8, 5:9, 6:10], array[20:24, 20:26, 20:26] = 3.0, 12.0
    array[14:17, 24:27, 4:7] = 4.0
    slicer.util.updateVolumeFromArray(results.surfaceErrorOf(volume), array)
    panel.ui.spotsSection.collapsed = False
    table = panel.ui.spotsTable
    assert table.rowCount == 3
    table.item(1, 0).setCheckState(qt.Qt.Checked)
    shown = []
    for _ in range(3):
        panel.click("nextSpotButton")
        shown.append(panel.ui.spotLabel.text.split(" of")[0])
    assert shown == ["Spot 1", "Spot 3", "Spot 1"]
    assert len(results.fromJson(result.GetAttribute(results.CHECKED), list)) == 1
    panel.widget.display.refresh()
    states = [table.item(r, 0).checkState() == qt.Qt.Checked for r in range(3)]
    assert states == [False, True, False]
    voxel = float(np.prod(volume.GetSpacing())) / 1000
    volumes = [float(table.item(r, 3).text()) for r in range(3)]
    assert volumes == pytest.approx([4 * 36 * voxel, 64 * voxel, 27 * voxel], abs=0.01)
    # 64 voxels of 3 mm are more than 27 of 4 mm
    assert [table.item(r, 2).text().strip() for r in range(3)] == ["12.0", "3.0", "4.0"]
    table.sortByColumn(2, qt.Qt.AscendingOrder)  # as a click on the title does
    table.selectRow(0)
    assert panel.ui.spotLabel.text.startswith("Spot 2 of 3: ")
    for row in range(3):
        table.item(row, 0).setCheckState(qt.Qt.Checked)
    panel.click("nextSpotButton")
    assert panel.ui.spotLabel.text.endswith("All spots are checked.")


def test_spots_lie_apart_and_are_at_most_ten(panel):
    import slicer
    from UGMCLSegmentationLib.panel.display import doubtfulSpots
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    panel.segment(volume)
    node = results.surfaceErrorOf(volume)
    array = np.zeros((24, 24, 24), np.float32)
    array[10:13] = 4.0
    slicer.util.updateVolumeFromArray(node, array)
    found = doubtfulSpots.find(node)
    assert 1 < len(found) <= 10
    places = np.array([spot.ijk for spot in found]) * volume.GetSpacing()
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert (gaps[~np.eye(len(found), dtype=bool)] > 10.0).all()
    whole = (array > 0).sum() * np.prod(volume.GetSpacing()) / 1000.0
    assert sum(spot.milliliters for spot in found) <= whole + 0.05, "nothing is counted twice"


def test_places_are_named_by_the_side_of_the_structure():
    from UGMCLSegmentationLib.panel.display.doubtfulSpots import inWords

    surface = np.array([(x, y, z) for x in (-10, 10) for y in (0, 60) for z in (100, 110)], float)
    assert inWords(np.array([9.0, 31.0, 105.0]), surface) == "right"
    assert inWords(np.array([-5.0, 2.0, 105.0]), surface) == "posterior, left"
    assert inWords(np.array([0.0, 58.0, 101.0]), surface) == "anterior, inferior"
    assert inWords(np.array([1.0, 33.0, 106.0]), surface) == "center"


def test_the_cameras_look_at_a_spot_from_outside(panel):
    import slicer
    from UGMCLSegmentationLib.panel.display import doubtfulSpots
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    panel.segment(volume)
    node = results.surfaceErrorOf(volume)
    camera = slicer.util.getNodesByClass("vtkMRMLCameraNode")[0]
    away = np.linalg.norm(np.subtract(camera.GetPosition(), camera.GetFocalPoint()))
    array = np.zeros(support.blob().shape, np.float32)
    array[4:12, 4:12, 4:12], array[5:8, 5:8, 11] = 1.0, 4.0  # in a corner of the volume
    slicer.util.updateVolumeFromArray(node, array)
    (spot,) = doubtfulSpots.find(node)
    place = np.array(doubtfulSpots.jump(node, spot))
    center, eye = np.array(camera.GetFocalPoint()), np.array(camera.GetPosition())
    toRas = slicer.util.arrayFromVTKMatrix(matrix_of(node))
    assert center == pytest.approx((toRas @ [7.5, 7.5, 7.5, 1.0])[:3]), "that of the structure"
    assert np.linalg.norm(eye - center) == pytest.approx(away)
    cosine = (eye - center) @ (place - center)
    assert cosine == pytest.approx(away * np.linalg.norm(place - center))


def test_spots_under_a_transform(panel):
    import slicer
    import vtk
    from UGMCLSegmentationLib.panel.display import doubtfulSpots
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = vtk.vtkTransform()
    moved.Translate(100, 0, 0)
    transform.SetMatrixTransformToParent(moved.GetMatrix())
    panel.segment(volume)
    node = results.surfaceErrorOf(volume)
    found = doubtfulSpots.find(node)
    before = np.array(doubtfulSpots.jump(node, found[0]))
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert np.allclose(np.array(doubtfulSpots.jump(node, found[0])) - before, (100, 0, 0))


def test_sure_everywhere(panel):
    import slicer
    from UGMCLSegmentationLib.scene import results

    volume = support.add_volume()
    panel.segment(volume)
    node = results.surfaceErrorOf(volume)
    slicer.util.arrayFromVolume(node)[:] = 1.5
    panel.click("nextSpotButton")
    assert "nowhere expected to be off by more than 2 mm" in panel.ui.spotLabel.text


def test_choosing_a_class_shows_its_distance(panel, monkeypatch):
    from UGMCLSegmentationLib.scene import results

    monkeypatch.setenv("FAKE_CLASSES", "2")
    volume = support.add_volume()
    panel.segment(volume)
    panel.parameters.showDistance = True
    composite = harness.slice_view("Red").composite
    for index, value in ((1, 4), (0, 1)):
        panel.ui.classSelector.currentIndex = index
        assert composite.GetForegroundVolumeID() == results.distanceOf(volume, value).GetID()


def test_deleted_results_leave_the_panel_usable(panel, capsys):
    import slicer

    volume = support.add_volume()
    for _ in range(2):
        slicer.mrmlScene.RemoveNode(panel.segment(volume))
        assert panel.parameters.segmentation is None
    assert "Traceback" not in capsys.readouterr().err
    assert panel.segment(volume) is not None


def has_surface(panel):
    from UGMCLSegmentationLib.panel.display import surfaces

    node = panel.parameters.segmentation
    return surfaces.isMade(node) and bool(node.GetDisplayNode().GetVisibility3D())


def test_a_rough_surface_waits_for_the_user(panel):
    noise = np.random.default_rng(0).uniform(0, 200, (60, 64, 68)).astype(np.float32)
    rough, smooth = support.add_volume(noise, name="rough"), support.add_volume()
    panel.segment(rough)
    assert not has_surface(panel) and not panel.ui.showSurfaceCheckBox.checked
    assert not panel.ui.surfaceLabel.isHidden() and "faces" in panel.ui.surfaceLabel.text
    panel.ui.distanceOpacitySlider.value = 0.3  # nothing but a tick asks for it
    assert not has_surface(panel) and not panel.ui.surfaceLabel.isHidden()
    panel.segment(smooth)  # as if nothing had been
    assert has_surface(panel) and panel.ui.showSurfaceCheckBox.checked
    assert panel.ui.surfaceLabel.isHidden()
    panel.segment(rough)
    assert not has_surface(panel)
    panel.ui.showSurfaceCheckBox.checked = True
    assert has_surface(panel) and panel.ui.surfaceLabel.isHidden()
    panel.ui.showSurfaceCheckBox.checked = False  # the user's wish from now on
    panel.segment(smooth)
    assert not panel.ui.showSurfaceCheckBox.checked and panel.ui.surfaceLabel.isHidden()


@pytest.mark.parametrize("way", ["reload", "scene"])
def test_a_surface_left_out_stays_the_users_wish(panel, tmp_path, way):
    import slicer

    noise = np.random.default_rng(0).uniform(0, 200, (60, 64, 68)).astype(np.float32)
    panel.segment(support.add_volume(noise, name="rough"))
    assert not has_surface(panel)
    if way == "reload":
        panel.loaded.reload()
        panel.widget.logic.worker.command = support.FAKE
    else:
        assert harness.save_scene(tmp_path / "scene.mrb")
        slicer.mrmlScene.Clear(False)
        assert harness.load_scene(tmp_path / "scene.mrb")
    assert not has_surface(panel) and not panel.ui.surfaceLabel.isHidden()
    assert not panel.ui.showSurfaceCheckBox.checked
    panel.segment(support.add_volume())
    assert has_surface(panel) and panel.ui.showSurfaceCheckBox.checked
    assert panel.ui.surfaceLabel.isHidden()


def test_an_error_while_showing_does_not_stop_the_section(panel, monkeypatch):
    from UGMCLSegmentationLib.scene import results

    panel.segment(support.add_volume())
    display = panel.widget.display
    with monkeypatch.context() as patch:
        patch.setattr(results, "summary", lambda node: {"classes": [{}]})
        with pytest.raises(KeyError):
            display.refresh()
    display.refresh()
    assert panel.ui.classSelector.count == 1


@pytest.mark.parametrize("most", [10**6, 20_000])
def test_faces_are_counted(scene, monkeypatch, most):
    """On a body of two structures that reaches the border; with one slice of many, about."""
    from UGMCLSegmentationLib.panel.display import surfaces
    from UGMCLSegmentationLib.scene import resultNodes, volumes

    monkeypatch.setattr(surfaces, "_MOST_VOXELS", most)
    labels = (support.blob((50, 40, 60)) > 60).astype(np.uint8)
    labels[:, :12] *= 2
    labels[10:50, 18:22, 20:40] = 1
    padded = np.pad(labels, 1)
    expected = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in range(3))
    volume = support.add_volume(labels.astype(np.float32))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    image = resultNodes.labelmap(labels, volumes.fullBox(volume), volume)
    for value in (1, 2):
        support.add_segment(node, image, value)
    assert surfaces.faces(node) == pytest.approx(expected, rel=0 if most == 10**6 else 0.05)


def test_an_atrium_of_a_fine_scan_gets_its_surface(scene):
    """An ellipsoid of 90 mm and of 100 mL, its wall rough by a voxel: far from the limit."""
    from UGMCLSegmentationLib.panel.display import surfaces

    k, j, i = np.ogrid[-55:55:88j, -200:200:640j, -200:200:640j]
    body = (k / 24) ** 2 + (j / 22) ** 2 + (i / 45) ** 2
    body = body + np.random.default_rng(0).uniform(-0.02, 0.02, body.shape)
    assert 2 * surfaces._facesOf((body < 1).astype(np.uint8)) < surfaces.MOST_FACES
