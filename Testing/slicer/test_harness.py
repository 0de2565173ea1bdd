"""The headless Slicer itself: strict stand-ins, real pictures, modules that come and go."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
import shiboken6

DEMO = Path(__file__).parent / "data" / "HarnessDemo" / "HarnessDemo.py"


@pytest.fixture
def demo(scene: Any) -> Any:
    loaded = harness.load_module(DEMO)
    yield loaded
    loaded.unload()


def add_volume(name: str, value: float, size: int = 24) -> Any:
    import slicer

    array = np.zeros((size, size, size), np.float32)
    array[4:-4, 4:-4, 4:-4] = value
    return slicer.util.addVolumeFromArray(array, np.diag([-1.0, -1.0, 1.0, 1.0]), name=name)


def show_flat(node: Any, color: str) -> None:
    """Draw a volume so that its bright voxels have one pure color and its zeros are black."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 100.0)
    display.SetAndObserveColorNodeID(f"vtkMRMLColorTableNode{color}")


class TestStandIns:
    def test_properties_are_attributes(self, scene: Any) -> None:
        import qt

        label = qt.QLabel("text")
        assert label.text == "text"
        label.text = "other"
        assert label.text == "other"
        with pytest.raises(TypeError):
            label.text()
        label.alignment = qt.Qt.AlignRight
        assert label.alignment == qt.Qt.AlignRight

    def test_unknown_attributes_are_refused(self, scene: Any) -> None:
        import ctk
        import qt
        import slicer

        for widget in (qt.QLabel(), ctk.ctkSliderWidget(), slicer.qMRMLNodeComboBox()):
            with pytest.raises(AttributeError):
                widget.anything = 1
            with pytest.raises(AttributeError):
                _ = widget.anything

    def test_misfitting_values_are_refused(self, scene: Any) -> None:
        import ctk
        import qt

        for widget, name, value in (
            (qt.QLabel(), "text", 5), (ctk.ctkSliderWidget(), "value", "5"),
            (ctk.ctkPathLineEdit(), "currentPath", Path("x")),
        ):
            with pytest.raises(AttributeError):
                setattr(widget, name, value)

    def test_unknown_signals_are_refused(self, scene: Any) -> None:
        import qt
        import slicer

        with pytest.raises(ValueError, match="does not exist"):
            qt.QPushButton().connect("pushed()", print)
        with pytest.raises(ValueError, match="does not exist"):
            slicer.qMRMLNodeComboBox().connect("currentNodeChanged(PyObject)", print)

    def test_members_that_only_cpp_has_are_absent(self, scene: Any) -> None:
        import ctk
        import slicer

        assert not hasattr(slicer.qMRMLNodeComboBox(), "setNodeTypes")
        assert not hasattr(ctk.ctkSliderWidget(), "setDecimals")

    def test_slots_take_as_many_arguments_as_they_name(self, scene: Any) -> None:
        import qt

        seen: list[Any] = []
        button = qt.QPushButton()
        button.connect("clicked(bool)", lambda: seen.append("none"))
        button.connect("clicked(bool)", seen.append)
        button.click()
        assert seen == ["none", False]
        button.disconnect("clicked(bool)", seen.append)
        button.click()
        assert seen == ["none", False, "none"]

    def test_exceptions_in_slots_are_collected(self, scene: Any) -> None:
        import qt

        button = qt.QPushButton()
        button.connect("clicked()", lambda: 1 / 0)
        button.click()
        qt.QTimer.singleShot(0, lambda: {}["x"])
        harness.process_events(20)
        raised = harness.errors.take()
        assert [text.strip().splitlines()[-1].split(":")[0] for text in raised] == [
            "ZeroDivisionError", "KeyError"
        ]

    def test_dialogs_never_wait(self, scene: Any) -> None:
        import qt

        with harness.answering(qt.QMessageBox.Yes) as dialogs:
            assert qt.QMessageBox.question(None, "t", "Sure?") == qt.QMessageBox.Yes
        assert dialogs.asked == ["question t: Sure?"]
        with pytest.raises(RuntimeError, match="without an answer"):
            qt.QMessageBox.question(None, "t", "Sure?")

    def test_settings_are_private(self, slicer_app: Any) -> None:
        import qt

        qt.QSettings().setValue("Demo/Key", "value")
        assert slicer_app.userSettings().value("Demo/Key") == "value"
        assert slicer_app.slicerHome.rpartition("/")[0] in qt.QSettings().fileName()


    def test_exceptions_in_observers_are_collected(self, scene: Any) -> None:
        import slicer

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
        node.AddObserver("ModifiedEvent", lambda caller, event: 1 / 0)
        node.Modified()
        assert "ZeroDivisionError" in harness.errors.take()[0]

    def test_every_stand_in_can_be_made_and_read(self, scene: Any) -> None:
        from harness.widgets import CTK, MRML

        for cls in (*CTK, *MRML):
            widget = cls()
            assert widget.className() == cls.__name__
            meta = widget.metaObject()
            for index in range(meta.propertyCount()):
                getattr(widget, meta.property(index).name())

    def test_timers(self, scene: Any) -> None:
        import qt

        fired: list[int] = []
        timer = qt.QTimer()
        timer.singleShot = True
        timer.interval = 1
        timer.connect("timeout()", lambda: fired.append(1))
        timer.start()
        qt.QTimer.singleShot(1, lambda: fired.append(2))
        harness.wait_until(lambda: len(fired) == 2)
        assert not timer.active

    def test_missing_libraries_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from harness import system

        monkeypatch.setattr(system, "_loadable", lambda name: name != "EGL")
        with pytest.raises(system.MissingLibraries, match=r"libEGL .*apt-get install libegl1"):
            system.check_libraries()

    def test_genuine_files_take_precedence(self, tmp_path: Path) -> None:
        package = tmp_path / "slicer"
        (package / "parameterNodeWrapper").mkdir(parents=True)
        (package / "parameterNodeWrapper" / "__init__.py").write_text("genuine = True\n")
        (package / "i18n.py").write_text("genuine = True\ntr = translate = None\n")
        code = (
            "import harness; harness.start()\n"
            "import slicer.parameterNodeWrapper, slicer.i18n, slicer.ScriptedLoadableModule\n"
            "assert slicer.parameterNodeWrapper.genuine and slicer.i18n.genuine\n"
            "assert 'harness' in slicer.ScriptedLoadableModule.__file__\n"
        )
        environment = {
            **os.environ, "SLICER_BASE_PYTHON": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parent),
        }
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)


class TestModule:
    def test_binds_both_ways(self, demo: Any) -> None:
        ui, parameters = demo.ui, demo.widget.parameters
        assert not ui.applyButton.enabled
        volume = add_volume("MR", 100.0)
        assert ui.inputSelector.currentNode() is volume
        assert parameters.inputVolume is volume
        assert ui.applyButton.enabled
        assert (ui.thresholdSlider.maximum, ui.thresholdSlider.value) == (200.0, 90.0)
        ui.thresholdSlider.value = 50.0
        assert parameters.threshold == 50.0
        parameters.threshold = 70.0
        assert ui.thresholdSlider.value == 70.0
        parameters.device = "cpu"
        assert ui.deviceBox.currentText == "cpu"
        ui.deviceBox.currentIndex = 0
        assert parameters.device == "auto"
        assert ui.smoothingBox.currentText == "MEDIAN"
        ui.largestBox.checked = False
        assert parameters.keepLargest is False
        ui.folderEdit.currentPath = "/somewhere"
        assert parameters.folder == Path("/somewhere")

    def test_runs(self, demo: Any) -> None:
        import slicer

        volume = add_volume("MR", 100.0)
        demo.ui.applyButton.click()
        node = demo.widget.parameters.outputSegmentation
        assert node is not None and demo.ui.outputSelector.currentNode() is node
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "target", volume)
        assert mask.sum() == 16**3
        assert demo.instance.started == 1
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        assert hierarchy.GetItemName(hierarchy.GetItemByDataNode(node)) == "MR segmentation"

    @pytest.mark.parametrize("ending", ["scene.mrb", "scene.mrml", "folder"])
    def test_survives_saving_and_loading(self, demo: Any, tmp_path: Path, ending: str) -> None:
        import slicer

        add_volume("MR", 100.0)
        demo.ui.thresholdSlider.value = 60.0
        demo.widget.parameters.roles = {"MR": "labeled"}
        demo.ui.applyButton.click()
        target = tmp_path / ending
        if ending.endswith("mrml"):
            for name in ("MR", "MR segmentation"):
                node = slicer.util.getNode(name)
                suffix = ".nrrd" if name == "MR" else ".seg.nrrd"
                assert slicer.util.saveNode(node, str(tmp_path / f"data{suffix}"))
        assert harness.save_scene(target)
        slicer.mrmlScene.Clear(False)
        assert demo.ui.inputSelector.currentNode() is None
        assert demo.ui.thresholdSlider.value == 90.0
        if ending == "folder":
            target = next(target.rglob("*.mrml"))
        assert harness.load_scene(target)
        assert demo.ui.thresholdSlider.value == 60.0
        assert demo.widget.parameters.inputVolume.GetName() == "MR"
        assert demo.widget.parameters.roles == {"MR": "labeled"}
        assert demo.ui.outputSelector.currentNode().GetName() == "MR segmentation"
        assert np.max(slicer.util.arrayFromVolume(slicer.util.getNode("MR"))) == 100.0
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        names = [hierarchy.GetItemName(item) for item in
                 slicer.util.getSubjectHierarchyItemChildren(recursive=True)]
        assert sorted(names) == ["MR", "MR segmentation"]

    def test_label_volumes_have_colors(self, scene: Any) -> None:
        import slicer

        array = np.ones((4, 4, 4), np.uint8)
        node = slicer.util.addVolumeFromArray(array, nodeClassName="vtkMRMLLabelMapVolumeNode")
        node.CreateDefaultDisplayNodes()
        assert node.GetDisplayNode().GetColorNode() is not None

    def test_renamed_hidden_and_removed_nodes(self, demo: Any) -> None:
        import slicer

        first, second = add_volume("one", 1.0), add_volume("two", 1.0)
        selector = demo.ui.inputSelector
        assert selector.nodeCount() == 2
        second.SetHideFromEditors(True)
        assert selector.nodeCount() == 1
        second.SetHideFromEditors(False)
        selector.setCurrentNode(second)
        slicer.mrmlScene.RemoveNode(second)
        assert selector.currentNode() is first

    def test_reload_makes_a_new_widget(self, demo: Any) -> None:
        before = demo.widget
        after = demo.reload()
        assert after is not before and type(after) is not type(before)
        assert before.parameters is None
        assert after.ui.applyButton.text == "Apply"
        assert after.parent.isEntered

    def test_nothing_is_left_after_unloading(self, scene: Any) -> None:
        loaded = harness.load_module(DEMO)
        widget, button = weakref.ref(loaded.widget), loaded.ui.applyButton
        loaded.unload()
        assert widget() is None
        assert not shiboken6.isValid(button)
        assert "HarnessDemo" not in sys.modules

    def test_process(self, demo: Any) -> None:
        widget = demo.widget
        widget.runProcess("import sys; print('hello'); print(sys.stdin.readline().upper())")
        harness.wait_until(lambda: "hello" in widget.lines)
        widget.process.write(b"word\n")
        harness.wait_until(lambda: "finished 0 True" in widget.lines)
        assert "WORD" in widget.lines

    def test_launchers_run_this_python(self, slicer_app: Any) -> None:
        import qt

        process = qt.QProcess()
        process.start(slicer_app.slicerHome + "/bin/PythonSlicer", ["-c", "import torch.version"])
        assert process.waitForFinished(200000)  # torch, on a busy computer
        assert process.exitCode() == 0

    def test_panel_picture(self, demo: Any, tmp_path: Path) -> None:
        from PIL import Image

        harness.grab(demo.panel, tmp_path / "panel.png", width=400)
        picture = Image.open(tmp_path / "panel.png")
        assert picture.width == 400 and 250 < picture.height < 700
        assert len(picture.getcolors(1 << 24)) > 20


class TestViews:
    def test_all_layers_are_drawn(self, scene: Any) -> None:
        import slicer

        gray, red, green = (add_volume(name, 100.0) for name in ("gray", "red", "green"))
        for node, color in ((gray, "Grey"), (red, "Red"), (green, "Green")):
            show_flat(node, color)
        slicer.util.setSliceViewerLayers(
            background=gray, foreground=red, foregroundOpacity=1.0, fit=True
        )
        view = harness.slice_view("Red")
        view.fit()
        center = (view.size[1] // 2, view.size[0] // 2)
        assert np.allclose(view.pixels()[center], (255, 0, 0), atol=2)
        assert np.allclose(view.pixels()[3, 3], 0)
        slicer.util.setSliceViewerLayers(foregroundOpacity=0.5)
        assert np.allclose(view.pixels()[center], (255, 128, 128), atol=3)
        slicer.util.setSliceViewerLayers(foregroundOpacity=0.0)
        view.composite.SetNthLayerVolumeID(2, green.GetID())
        view.composite.SetNthLayerOpacity(2, 1.0)
        assert np.allclose(view.pixels()[center], (0, 255, 0), atol=2)

    def test_segmentation_markups_and_legend_are_drawn(self, demo: Any) -> None:
        import slicer

        volume = add_volume("MR", 100.0)
        show_flat(volume, "Grey")
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        view = harness.slice_view("Red")
        view.fit()
        plain = view.pixels()
        demo.ui.applyButton.click()
        segmented = view.pixels()
        assert (segmented != plain).any(axis=2).sum() > 1000
        legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volume)
        legend.SetVisibility(True)
        with_legend = view.pixels()
        assert (with_legend != segmented).any(axis=2).sum() > 500
        markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
        markups.CreateDefaultDisplayNodes()
        markups.AddControlPoint(-12.0, -12.0, view.logic.GetSliceOffset())
        assert (view.pixels() != with_legend).any(axis=2).sum() > 20

    def test_rotating_to_the_volume_plane(self, scene: Any) -> None:
        import slicer

        angle = np.deg2rad(20)
        matrix = np.eye(4)
        matrix[:2, :2] = [[-np.cos(angle), np.sin(angle)], [-np.sin(angle), -np.cos(angle)]]
        volume = slicer.util.addVolumeFromArray(np.ones((8, 8, 8), np.float32), matrix)
        slicer.util.setSliceViewerLayers(background=volume, rotateToVolumePlane=True, fit=True)
        node = harness.slice_view("Red").node
        assert abs(abs(node.GetSliceToRAS().GetElement(0, 0)) - np.cos(angle)) < 1e-6
        slicer.util.resetSliceViews()
        assert harness.slice_view("Red").node.GetFieldOfView()[1] >= 8

    def test_three_d(self, demo: Any) -> None:
        add_volume("MR", 100.0)
        demo.ui.applyButton.click()
        view = harness.three_d_view()
        empty = view.pixels()
        demo.widget.parameters.outputSegmentation.CreateClosedSurfaceRepresentation()
        view.fit()
        assert (view.pixels() != empty).any(axis=2).sum() > 1000

    def test_layout(self, scene: Any, slicer_app: Any) -> None:
        import slicer

        manager = slicer_app.layoutManager()
        assert set(manager.sliceViewNames()) >= {"Red", "Green", "Yellow"}
        assert manager.sliceWidget("Red").mrmlSliceNode().GetOrientation() == "Axial"
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
        assert not manager.sliceWidget("Green").mrmlSliceNode().IsMappedInLayout()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
