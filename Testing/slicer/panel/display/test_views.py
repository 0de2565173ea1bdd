"""Whose volume the slice views show, and which results: never one patient's over another's."""

from __future__ import annotations

import module_support as support


def backgrounds():
    import slicer

    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {slicer.mrmlScene.GetNodeByID(n.GetBackgroundVolumeID() or "") for n in nodes}


def foregrounds():
    import slicer

    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {slicer.mrmlScene.GetNodeByID(n.GetForegroundVolumeID() or "") for n in nodes}


def is_visible(segmentation):
    return bool(segmentation.GetDisplayNode().GetVisibility())


def test_the_views_follow_to_the_volume_that_was_chosen(panel):
    from UGMCLSegmentationLib.scene import results

    first, second = support.add_volume(name="one"), support.add_volume(name="two")
    nodes = [panel.segment(first), panel.segment(second)]
    assert backgrounds() == {second} and [is_visible(n) for n in nodes] == [False, True]
    panel.select(first)
    assert panel.parameters.segmentation is nodes[0]
    assert backgrounds() == {first} and foregrounds() == {results.distanceOf(first, 1)}
    assert [is_visible(n) for n in nodes] == [True, False]


def test_a_new_result_is_shown_once(panel, monkeypatch):
    """Not again by the events of the parameters that change with it."""
    from UGMCLSegmentationLib.panel.display import appearance, legends
    from UGMCLSegmentationLib.scene import segmentStatistics

    panel.select(support.add_volume())
    calls = []
    for module, name in ((appearance, "apply"), (appearance, "showAlone"), (legends, "apply"),
                         (segmentStatistics, "lines")):  # fmt: skip
        original = getattr(module, name)

        def counted(*arguments, original=original, key=f"{module.__name__}.{name}"):
            calls.append(key.removeprefix("UGMCLSegmentationLib."))
            return original(*arguments)

        monkeypatch.setattr(module, name, counted)
    once = ["panel.display.appearance.apply", "panel.display.appearance.showAlone",
            "panel.display.legends.apply", "scene.segmentStatistics.lines"]  # fmt: skip
    for _run in ("new", "updated"):
        panel.segment()
        assert sorted(calls) == once
        calls.clear()
    panel.click("segmentButton")
    panel.loaded.exit()
    panel.finish()
    assert calls == []
    panel.loaded.enter()
    assert sorted(calls) == once


def test_overlays_are_never_over_another_volume(panel):
    import slicer

    volume, other = support.add_volume(name="one"), support.add_volume(name="other")
    node = panel.segment(volume)
    slicer.util.setSliceViewerLayers(background=other)
    panel.loaded.exit()
    panel.loaded.enter()
    assert backgrounds() == {other} and foregrounds() == {None}
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert composite.GetNumberOfAdditionalLayers() == 0
    assert panel.parameters.segmentation is node


def test_a_run_that_ends_while_another_module_is_open_leaves_the_views(panel):
    from UGMCLSegmentationLib.scene import results

    volume, other = support.add_volume(name="one"), support.add_volume(name="other")
    import slicer

    panel.select(volume)
    panel.click("segmentButton")
    panel.loaded.exit()
    slicer.util.setSliceViewerLayers(background=other)
    panel.finish()
    node = results.latestOf(volume)
    assert backgrounds() == {other} and foregrounds() == {None} and not is_visible(node)
    panel.loaded.enter()
    assert backgrounds() == {volume} and foregrounds() == {results.distanceOf(volume, 1)}
    assert is_visible(node) and panel.parameters.segmentation is node
