"""The headless Slicer itself: it is as strict as Slicer, and its pictures are real."""

import types
from typing import Annotated, Any

import harness
import numpy as np
import pytest


def add_volume(name: str, color: str, size: int = 24) -> Any:
    """A bright cube that is drawn in one pure color on black."""
    import slicer

    array = np.zeros((size, size, size), np.float32)
    array[4:-4, 4:-4, 4:-4] = 100
    node = slicer.util.addVolumeFromArray(array, np.diag([-1.0, -1.0, 1.0, 1.0]), name=name)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 100.0)
    display.SetAndObserveColorNodeID(f"vtkMRMLColorTableNode{color}")
    return node


def test_the_qt_layer_is_as_strict_as_pythonqt(scene: Any, slicer_app: Any) -> None:
    import ctk
    import qt
    import slicer

    label, slider, selector = qt.QLabel("text"), ctk.ctkSliderWidget(), slicer.qMRMLNodeComboBox()
    assert label.text == "text" and not callable(label.text)
    for widget in (label, slider, selector):
        with pytest.raises(AttributeError):
            widget.anything = 1
    for widget, name, value in ((label, "text", 5), (slider, "value", "5")):
        with pytest.raises(AttributeError):
            setattr(widget, name, value)
    with pytest.raises(ValueError, match="does not exist"):
        selector.connect("currentNodeChanged(PyObject)", print)
    assert not hasattr(slider, "setDecimals")  # only C++ has it
    with harness.answering(qt.QMessageBox.Yes) as dialogs:
        assert qt.QMessageBox.question(None, "t", "Sure?") == qt.QMessageBox.Yes
    assert dialogs.asked == ["question t: Sure?"]
    with pytest.raises(RuntimeError, match="without an answer"):
        qt.QMessageBox.question(None, "t", "Sure?")
    label.toolTip = "1 < 2"
    assert label.toolTip == "<p>1 &lt; 2</p>"
    button, seen = qt.QPushButton(), []
    button.connect("clicked(bool)", lambda: seen.append("none"))
    button.connect("clicked(bool)", seen.append)
    button.connect("clicked(bool)", lambda: 1 / 0)
    button.click()
    assert seen == ["none", False]  # a slot gets as many arguments as it names
    qt.QTimer.singleShot(0, lambda: {}["x"])
    harness.process_events(20)
    kinds = [text.strip().splitlines()[-1].split(":")[0] for text in harness.errors.take()]
    assert kinds == ["ZeroDivisionError", "KeyError"]
    (timer,) = slicer_app.moduleManager().findChildren(qt.QTimer)
    timer.delete()


def test_parameters_are_kept_in_slicers_format_and_checked(scene: Any) -> None:
    import ctk
    import slicer
    from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

    @parameterNodeWrapper
    class Wrapper:
        volume: slicer.vtkMRMLScalarVolumeNode
        text: str = "é"
        count: Annotated[int, WithinRange(0, 4)] = 2
        share: float
        isOn: bool = True
        device: Annotated[str, Choice(["auto", "cpu"])] = "auto"

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = Wrapper(node)
    parameters.volume, parameters.share = add_volume("MR", "Grey"), 2.5
    expected = {"text": "é", "count": "2", "share": "2.5", "isOn": "True", "device": "auto"}
    assert {key: node.GetParameter(key) for key in expected} == expected
    assert Wrapper(node).volume.GetName() == "MR"
    for name, value in (("count", 5), ("count", "1"), ("device", "gpu"), ("text", None)):
        with pytest.raises((TypeError, ValueError)):
            setattr(parameters, name, value)
    slider = ctk.ctkSliderWidget()
    slider.setProperty("SlicerParameterName", "share")
    with pytest.raises(RuntimeError, match="unbounded"):
        parameters.connectGui(types.SimpleNamespace(slider=slider))
    slider.setProperty("SlicerParameterName", "missing")
    with pytest.raises(ValueError, match="missing"):
        parameters.connectGui(types.SimpleNamespace(slider=slider))


def test_all_layers_of_a_slice_view_are_drawn(scene: Any) -> None:
    import slicer

    gray, red, green = (add_volume(name, name) for name in ("Grey", "Red", "Green"))
    slicer.util.setSliceViewerLayers(
        background=gray, foreground=red, foregroundOpacity=0.5, fit=True
    )
    view = harness.slice_view("Red")
    view.fit()
    center = (view.size[1] // 2, view.size[0] // 2)
    assert np.allclose(view.pixels()[center], (255, 128, 128), atol=3)
    assert np.allclose(view.pixels()[3, 3], 0)
    slicer.util.setSliceViewerLayers(foregroundOpacity=0.0)
    view.composite.SetNthLayerVolumeID(2, green.GetID())
    view.composite.SetNthLayerOpacity(2, 1.0)
    assert np.allclose(view.pixels()[center], (0, 255, 0), atol=2)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import system

    monkeypatch.setattr(system, "_loadable", lambda name: name != "EGL")
    with pytest.raises(system.MissingLibraries, match=r"libEGL .*apt-get install libegl1"):
        system.check_libraries()
