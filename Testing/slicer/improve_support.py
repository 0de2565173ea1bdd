"""What the tests of the Improve section share: cases in the scene, rows of the table, models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness
import module_support as support
import numpy as np

NAMES = ("Case", "Role", "Label", "Uncertainty", "Size")


def add_segmentation(
    volume: Any, segments: dict[str, np.ndarray], name: str | None = None,
    terminology: dict[str, str] | None = None,
) -> Any:  # fmt: skip
    """A segmentation drawn on the volume; `segments` are k, j, i masks by name, `terminology` the
    SNOMED codes of some of them."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", name or f"{volume.GetName()} drawn"
    )
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    for title, mask in segments.items():
        identifier = node.GetSegmentation().AddEmptySegment("", title)
        if mask is not None:
            slicer.util.updateSegmentBinaryLabelmapFromArray(
                mask.astype(np.uint8), node, identifier, volume
            )
        if terminology and title in terminology:
            segment = node.GetSegmentation().GetSegment(identifier)
            entry = (
                "list~SCT^123037004^Anatomical Structure~SCT^"
                f"{terminology[title]}^meaning~^^~list~^^~^^"
            )
            segment.SetTag(segment.GetTerminologyEntryTagName(), entry)
    return node


def bright(volume: Any, level: float = 100.0) -> np.ndarray:
    import slicer

    return slicer.util.arrayFromVolume(volume) > level


def open_improve(panel: support.Panel) -> None:
    panel.ui.improveSection.collapsed = False
    panel.widget.improve.caseList.update()


def real_panel(model: Path, monkeypatch: Any) -> support.Panel:
    """A panel with the real worker that starts from ``model``."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    panel = support.Panel(command=None)
    for worker in (panel.widget.logic.worker, panel.widget.logic.trainer):
        worker.helloTimeout = 120.0  # on a busy computer torch takes its time
    show_charts(monkeypatch, lambda chart: None)
    panel.widget.segment.useModelFolder(str(model))
    panel.parameters.base = str(model)
    panel.parameters.device = "cpu"
    return panel


def show_charts(monkeypatch: Any, show: Callable[[Any], None]) -> None:
    """Slicer's Plots module, which the headless Slicer lacks: it calls ``show`` with a chart."""
    import slicer

    logic = SimpleNamespace(ShowChartInLayout=show)
    plots = SimpleNamespace(logic=lambda: logic)
    monkeypatch.setattr(slicer.modules, "plots", plots, raising=False)


def cases_panel(tmp_path: Path) -> support.Panel:
    """A panel whose base model has two classes."""
    model = add_model(tmp_path / "heart", ("left atrium", "82471001"), ("scar", ""))
    panel = support.Panel()
    panel.parameters.base = model
    return panel


def finetune_panel(tmp_path: Path, monkeypatch: Any) -> support.Panel:
    """A panel with the fake worker and one model; ``shown`` gets the charts and files it opens."""
    import qt

    model = add_model(tmp_path / "models" / "heart", ("left atrium", "82471001"))
    monkeypatch.setenv("UGMCL_MODELS", os.path.dirname(model))
    panel = support.Panel()
    panel.parameters.model = panel.parameters.base = "heart"
    panel.shown = []
    show_charts(monkeypatch, panel.shown.append)
    monkeypatch.setattr(
        qt.QDesktopServices, "openUrl", lambda url: panel.shown.append(Path(url.toLocalFile()))
    )
    return panel


def columns(name: str) -> dict[str, list[str]] | None:
    """The columns of the first table node whose name begins so, by title."""
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLTableNode"):
        if node.GetName().startswith(name):
            data = node.GetTable()
            return {
                data.GetColumnName(c): [
                    data.GetValue(r, c).ToString() for r in range(data.GetNumberOfRows())
                ]
                for c in range(data.GetNumberOfColumns())
            }
    return None


def wait_for_steps(panel: support.Panel, seconds: float = 20.0) -> None:
    """Until a run trains."""
    harness.wait_until(lambda: panel.ui.pauseButton.enabled, seconds)


def rows(panel: support.Panel) -> dict[str, tuple[str, str, str]]:
    """Role, label and size or predicted Dice as the table shows them, by case, in its order."""
    panel.widget.improve.caseList.update()
    table = panel.ui.casesTable
    shown = {}
    for row in range(table.rowCount):
        if table.isRowHidden(row):
            continue
        label = table.cellWidget(row, 2)
        text = label.currentText if label is not None else table.item(row, 2).text()
        shown[table.item(row, 0).text()] = (
            table.cellWidget(row, 1).currentText, text, table.item(row, 3).text()
        )  # fmt: skip
    return shown


def row_of(panel: support.Panel, name: str) -> int:
    table = panel.ui.casesTable
    for row in range(table.rowCount):
        if table.item(row, 0).text() == name:
            return row
    raise AssertionError(f"no case {name}")


def set_role(panel: support.Panel, name: str, role: str) -> None:
    """Choose in the table, as a user does."""
    selector = panel.ui.casesTable.cellWidget(row_of(panel, name), 1)
    selector.currentIndex = selector.findText(role)
    panel.widget.improve.caseList.update()


def choose_label(panel: support.Panel, name: str, label: str) -> None:
    selector = panel.ui.casesTable.cellWidget(row_of(panel, name), 2)
    selector.currentIndex = selector.findText(label)
    panel.widget.improve.caseList.update()


def select_rows(panel: support.Panel, *names: str) -> None:
    import qt

    table = panel.ui.casesTable
    table.clearSelection()
    for name in names:
        table.selectionModel().select(
            table.model().index(row_of(panel, name), 0),
            qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows,
        )


def add_model(folder: Path, *classes: tuple[str, str]) -> str:
    """A model's card with these classes (name, SNOMED code or ""); returns its folder."""
    from ugmcl_core.models.card import ClassInfo, ModelCard, Terminology

    infos = tuple(
        ClassInfo(value, name, terminology=Terminology("SCT", code, name) if code else None)
        for value, (name, code) in enumerate(classes, start=1)
    )
    card = ModelCard(
        name=folder.name, description="", modality="LGE-MRI", channels=("image",), classes=infos,
        spacing=(1.25, 1.25, 1.25), patch=(16, 16, 16),
        normalization={"kind": "robust-z", "low": 1.0, "high": 99.0}, network={}, sha256="0" * 64,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(card.to_json())
    (folder / "weights.safetensors").write_bytes(b"")
    return str(folder)


def wait_for_table(panel: support.Panel, name: str) -> None:
    """Until the table lists the case by itself."""
    table = panel.ui.casesTable
    harness.wait_until(lambda: name in [table.item(r, 0).text() for r in range(table.rowCount)], 5)


def add_cases(
    labeled: int = 2, unlabeled: int = 4, holdout: int = 3, segment: str = "left atrium"
) -> None:
    """Phantoms in the scene, named by their role, those with a label with one."""
    for role, count in (("lab", labeled), ("un", unlabeled), ("hold", holdout)):
        for number in range(count):
            name = f"{role}{number}"
            volume = support.add_volume(support.blob(seed=hash_of(name)), name=name)
            if role != "un":
                add_segmentation(volume, {segment: bright(volume)})


def hash_of(name: str) -> int:
    return sum(name.encode())


def prepare(panel: support.Panel, *counts: int, iterations: int = 40) -> None:
    """Cases in the scene, labeled with the base's first class, their roles set; a short run."""
    open_improve(panel)
    add_cases(*counts, segment=panel.widget.improve.caseList.contents.classes[0].name)
    panel.widget.improve.caseList.update()
    for row in range(panel.ui.casesTable.rowCount):
        name = panel.ui.casesTable.item(row, 0).text()
        if name.startswith("hold"):
            set_role(panel, name, "Hold-out")
    panel.ui.iterationsSpinBox.value = iterations


def finish(panel: support.Panel, seconds: float = 60.0) -> None:
    harness.wait_until(lambda: not panel.widget.improve.finetune.running, seconds)


def user_runs() -> list[Path]:
    from UGMCLSegmentationLib.storage import userFolder

    return sorted(userFolder.runs().iterdir())


def next_panel(folder: Path, monkeypatch):
    """The panel with the model `heart`, what the application alone has put on record in
    `panel.edited`."""
    model = add_model(folder / "models" / "heart", ("left atrium", "82471001"))
    monkeypatch.setenv("UGMCL_MODELS", os.path.dirname(model))
    panel = support.Panel()
    panel.parameters.model = panel.parameters.base = "heart"
    panel.ui.nextSection.collapsed = False
    panel.edited = []
    from UGMCLSegmentationLib.panel.improve import ranking

    monkeypatch.setattr(ranking, "openSegmentEditor", lambda *nodes: panel.edited.append(nodes))
    show_charts(monkeypatch, lambda chart: None)
    return panel


def wait(panel, seconds: float = 60) -> None:
    """Until the model is at rest."""
    harness.wait_until(lambda: not panel.widget.logic.running, seconds)
