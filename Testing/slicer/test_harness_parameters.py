"""slicer.parameterNodeWrapper of the headless Slicer, stand-in or genuine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest


def wrapper(annotation: Any) -> Any:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    return parameterNodeWrapper(type("P", (), {"__annotations__": {"x": annotation}}))


def make(annotation: Any) -> Any:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    return wrapper(annotation)(node)


def test_unsupported_types_are_refused(scene: Any) -> None:
    for annotation in (object, list, bytes, set[int]):
        with pytest.raises(Exception, match="Unable to create serializer"):
            wrapper(annotation)


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (int, 3, {"x": "3"}),
        (float, 2.5, {"x": "2.5"}),
        (bool, True, {"x": "True"}),
        (str, "é", {"x": "é"}),
        (Path, Path("/a/b"), {"x": "/a/b"}),
        (list[float], [1.0, 2.0], {"x_len": "2", "x_0": "1.0", "x_1": "2.0"}),
        (tuple[int, str], (1, "b"), {"x_0": "1", "x_1": "b"}),
        (dict[str, int], {"a": 1}, {"x_len": "1", "x_0_0": "a", "x_0_1": "1"}),
    ],
)
def test_values_are_kept_in_slicers_format(
    scene: Any, annotation: Any, value: Any, stored: dict[str, str]
) -> None:
    parameters = make(annotation)
    parameters.x = value
    assert parameters.x == value
    node = parameters.parameterNode
    assert {key: node.GetParameter(key) for key in stored} == stored
    assert type(parameters)(node).x == value


def test_containers_write_back(scene: Any) -> None:
    parameters = make(dict[str, str])
    parameters.x["case"] = "labeled"
    assert type(parameters)(parameters.parameterNode).x == {"case": "labeled"}
    with pytest.raises((TypeError, ValueError)):
        parameters.x = {"case": 1}
    assert parameters.x == {"case": "labeled"}


def test_validators(scene: Any) -> None:
    from slicer.parameterNodeWrapper import Choice, Default, WithinRange

    parameters = make(Annotated[int, WithinRange(0, 4), Default(2)])
    assert parameters.x == 2
    with pytest.raises(ValueError):
        parameters.x = 5
    with pytest.raises(TypeError):
        parameters.x = "1"
    choice = make(Annotated[str, Choice(["a", "b"]), Default("a")])
    with pytest.raises(ValueError):
        choice.x = "c"


def test_packs(scene: Any) -> None:
    from slicer.parameterNodeWrapper import parameterPack

    pack = parameterPack(
        type("Case", (), {"__annotations__": {"name": str, "weight": float}})
    )
    parameters = make(pack)
    parameters.x = pack("first", 2.0)
    parameters.x.weight = 3.0
    assert parameters.parameterNode.GetParameter("x.weight") == "3.0"
    assert parameters.getValue("x.name") == "first"
    assert type(parameters)(parameters.parameterNode).x == pack("first", 3.0)


def test_sliders_without_bounds_and_boxes_without_choices_are_refused(
    scene: Any
) -> None:
    import ctk
    import qt

    for annotation, widget in (
        (float, ctk.ctkSliderWidget()), (int, qt.QSlider()), (str, qt.QComboBox()),
        (str, qt.QLabel()), (str, ctk.ctkComboBox()), (float, qt.QSlider()),
    ):
        parameters = make(annotation)
        with pytest.raises(RuntimeError):
            parameters.connectParametersToGui({"x": widget})


def test_a_widget_that_names_no_parameter_is_refused(scene: Any) -> None:
    import qt

    parent = qt.QWidget()
    box = qt.QCheckBox(parent)
    box.setProperty("SlicerParameterName", "missing")
    with pytest.raises(ValueError, match="missing"):
        make(bool).connectGui(parent)
