"""Models and storage: import, export, rename and delete models; the user folder and its size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import qt
import slicer
from slicer.i18n import tr as _

from ugmcl_core.errors import InputError
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.qtHelpers import Connections, askForFolder, enable, fill
from UGMCLSegmentationLib.storage import runFolder, temporaryFolders, userFolder
from UGMCLSegmentationLib.worker import elsewhere
from UGMCLSegmentationLib.worker.child import Child, Ending, pythonExecutable

_TITLE = "UGMCL Segmentation"


class ModelsListener(Protocol):
    """Follows what the user does with models and storage."""

    @property
    def isBusy(self) -> bool:
        """Whether a run uses models or the folder of runs."""

    def onModelImported(self, name: str) -> None: ...

    def onModelRenamed(self, old: str, new: str) -> None: ...

    def onModelDeleted(self, name: str) -> None: ...

    def onStorageMoved(self) -> None: ...


class ModelsSection:
    def __init__(self, ui, connections: Connections, listener: ModelsListener) -> None:
        self._ui = ui
        self._listener = listener
        self._models: dict[str, object] = {}
        self._known: list = []
        self._child: Child | None = None
        self._onDone: Callable[[dict], None] | None = None
        self._answer: dict = {}
        for widget, signal, slot in (
            (ui.modelsSection, "toggled(bool)", lambda _isOpen: self.refresh()),
            (ui.storedModelSelector, "currentIndexChanged(int)", self._onSelected),
            (ui.knownModelSelector, "currentIndexChanged(int)", self._onKnownSelected),
            (ui.importSourceEdit, "textChanged(QString)", self._update),
            (ui.importModelButton, "clicked(bool)", self._onImport),
            (ui.browseFolderButton, "clicked(bool)", self._onBrowseFolder),
            (ui.browseZipButton, "clicked(bool)", self._onBrowseZip),
            (ui.importStopButton, "clicked(bool)", self._onStop),
            (ui.exportModelButton, "clicked(bool)", self._onExport),
            (ui.renameModelButton, "clicked(bool)", self._onRename),
            (ui.deleteModelButton, "clicked(bool)", self._onDelete),
            (ui.openStorageButton, "clicked(bool)", self._onOpen),
            (ui.changeStorageButton, "clicked(bool)", self._onChange),
            (ui.freeStorageButton, "clicked(bool)", self._onFree),
        ):
            connections.connect(widget, signal, slot)
        self._showMessage("")
        self._update()

    @property
    def running(self) -> bool:
        return self._child is not None

    def close(self) -> None:
        """End the process; for the end of the panel."""
        self._onDone = None
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def refresh(self) -> None:
        """Look for models and measure the sizes again, unless the section is closed."""
        if self._ui.modelsSection.collapsed:
            return
        from ugmcl_core.models import store

        self._models = {m.name: m for m in models.find()}
        try:
            self._known = store.known_models(userFolder.modelPlaces())
        except InputError as error:
            self._known = []
            self._showMessage(str(error), isError=True)
        known = [entry for entry in self._known if entry.name not in self._models]
        chosen = self._key if self._key in self._models else next(iter(self._models), "")
        stored, offered = self._ui.storedModelSelector, self._ui.knownModelSelector
        fill(stored, [(name, name, "") for name in self._models], chosen)
        entries = [(f"{entry.name} ({_size(entry.bytes)})", entry.name, "") for entry in known]
        fill(offered, [(_("Choose a known model"), "", ""), *entries], "")
        offered.setVisible(bool(known))
        self._onSelected()
        self._showSizes()

    @property
    def _key(self) -> str:
        return self._ui.storedModelSelector.currentData or ""

    def _onSelected(self, _index: int = -1) -> None:
        model = self._models.get(self._key)
        lines = []
        if model is not None:
            card = model.card
            place = _("included in the extension") if model.bundled else str(model.folder)
            use = card.intended_use
            if "not for clinical use" not in use.lower():
                use = f"{use} {_('Not for clinical use.')}".strip()
            lines = [card.description] + [
                text.format(text=value)
                for text, value in (
                    (_("Structures: {text}"), ", ".join(info.name for info in card.classes)),
                    (_("Images: {text}"), _imagesOf(card)),
                    (_("Use: {text}"), use),
                    (_("License: {text}"), card.license),
                    (_("Place: {text}"), place),
                )
                if value
            ]
        self._ui.storedModelLabel.text = "\n".join(line for line in lines if line)
        self._update()

    def _onKnownSelected(self, index: int) -> None:
        if index > 0:
            self._ui.importSourceEdit.text = self._ui.knownModelSelector.itemData(index)

    def _update(self, *_arguments) -> None:
        ui, model = self._ui, self._models.get(self._key)
        busy = _("A model is being imported or exported.") if self.running else ""
        source = ui.importSourceEdit.text.strip()
        ui.importSumEdit.setVisible("://" in source)
        missing = "" if source else _("Choose a folder or a zip, or enter an address.")
        text = _("Check the model and copy it to this computer.")
        enable(ui.importModelButton, text, unless=busy or missing)
        missing = "" if model is not None else _("There is no model on this computer.")
        text = _("Write a copy of the model: a zip for import on another computer, or an ONNX "
                 "file for programs without PyTorch.")  # fmt: skip
        enable(ui.exportModelButton, text, unless=busy or missing)
        if model is not None and model.bundled:
            missing = _("Models that came with the extension cannot be renamed or deleted.")
        elif model is not None and not _isInUserFolder(model.folder):
            missing = _("Only models in the folder shown under Storage can be renamed or deleted.")
        enable(ui.renameModelButton, _("Rename the model."), unless=busy or missing)
        text = _("Delete the model from this computer.")
        enable(ui.deleteModelButton, text, unless=busy or missing)
        ui.importProgressBar.setVisible(self.running)
        ui.importStopButton.setVisible(self.running)
        text = _("Store new models, runs and logs in another folder. Existing ones stay where "
                 "they are.")  # fmt: skip
        enable(ui.changeStorageButton, text, unless=busy)

    # Import and export take a while, so a process does them

    def _onBrowseFolder(self, _checked: bool = False) -> None:
        if folder := askForFolder(_("Folder of the model")):
            self._ui.importSourceEdit.text = folder

    def _onBrowseZip(self, _checked: bool = False) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Zip of the model"), "", _("Zip files (*.zip)")
        )
        if path:
            self._ui.importSourceEdit.text = path

    def _onImport(self, _checked: bool = False) -> None:
        source = self._ui.importSourceEdit.text.strip()
        words = ["import", source]
        if "://" in source:
            words += ["--sha256", self._ui.importSumEdit.text.strip()]
        label = self._ui.modelsMessageLabel
        with messages.showingErrors(label, _("The model cannot be imported.")):
            words += ["--to", str(userFolder.models())]
            self._start(words, self._imported)

    def _imported(self, answer: dict) -> None:
        name = str(answer.get("model", ""))
        self._ui.importSourceEdit.text = ""
        self._ui.importSumEdit.text = ""
        self.refresh()
        self._ui.storedModelSelector.currentIndex = self._ui.storedModelSelector.findData(name)
        self._showMessage(_("{name} was imported.").format(name=name))
        self._listener.onModelImported(name)

    def _onExport(self, _checked: bool = False) -> None:
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Export the model"), f"{self._key}.zip",
            _("Zip of the model (*.zip);;ONNX file (*.onnx)"),
        )  # fmt: skip
        if path:
            self._start(["export", self._key, path], self._exported)

    def _exported(self, answer: dict) -> None:
        self._showMessage(_("Written: {path}").format(path=answer.get("written", "")))

    def _start(self, words: list[str], onDone: Callable[[dict], None]) -> None:
        self._showMessage("")
        self._onDone, self._answer = onDone, {}
        self._ui.importProgressBar.maximum = 0  # it moves until the size is known
        command = [pythonExecutable(), "-m", "ugmcl_core", "models", *words, "--json"]
        self._child = Child(command, self._onLine, self._onEnd)
        self._update()

    def _onLine(self, line: str) -> None:
        try:
            content = json.loads(line)
        except ValueError:
            return  # printed by a library
        if "bytes" in content and content.get("total"):
            self._ui.importProgressBar.maximum = 100
            self._ui.importProgressBar.value = 100 * content["bytes"] // content["total"]
        else:
            self._answer = content

    def _onEnd(self, ending: Ending) -> None:
        self._child = None
        onDone, self._onDone = self._onDone, None
        self._update()
        if ending.hasStarted and not ending.code and not ending.signal:
            if onDone is not None:
                onDone(self._answer)
            return
        last = ending.lastWords.splitlines()[-1] if ending.lastWords else _("it left no message")
        self._showMessage(messages.asSentence(last.removeprefix("ugmcl: ")), isError=True)

    def _onStop(self, _checked: bool = False) -> None:
        self.close()
        self._update()
        self._showMessage(_("Stopped."))

    # Rename and delete are quick

    def _onRename(self, _checked: bool = False) -> None:
        from ugmcl_core.models import store

        model = self._models[self._key]
        name = qt.QInputDialog.getText(
            slicer.util.mainWindow(), _TITLE, _("New name:"), qt.QLineEdit.Normal, model.name
        )
        if name and name != model.name and self._attempt(lambda: store.rename(model, name)):
            self.refresh()
            self._ui.storedModelSelector.currentIndex = self._ui.storedModelSelector.findData(name)
            self._listener.onModelRenamed(model.name, name)

    def _onDelete(self, _checked: bool = False) -> None:
        from ugmcl_core.models import store

        model = self._models[self._key]
        question = _("Delete the model {name} from this computer?").format(name=model.name)
        if slicer.util.confirmOkCancelDisplay(question, _TITLE) and self._attempt(
            lambda: store.remove(model.folder)
        ):
            self.refresh()
            self._showMessage(_("{name} was deleted.").format(name=model.name))
            self._listener.onModelDeleted(model.name)

    def _attempt(self, act: Callable[[], object]) -> bool:
        """Do it and return True, or show why it failed."""
        self._showMessage("")
        if self._listener.isBusy:
            self._showMessage(_("A run is in progress: wait until it ends."), isError=True)
            return False
        try:
            act()
        except (InputError, PanelError) as error:
            self._showMessage(messages.asSentence(str(error)), isError=True)
            return False
        return True

    # Storage

    def _showSizes(self) -> None:
        place = userFolder.place()
        parts = [
            f"{text} {_size(temporaryFolders.size(place / name))}"
            for name, text in (("models", _("models")), ("runs", _("runs")), ("logs", _("logs")))
        ]
        self._ui.storageLabel.text = f"{place}\n{', '.join(parts)}"

    def _onOpen(self, _checked: bool = False) -> None:
        if self._attempt(userFolder.path):
            url = qt.QUrl.fromLocalFile(str(userFolder.place()))
            qt.QDesktopServices.openUrl(url)

    def _onChange(self, _checked: bool = False) -> None:
        folder = askForFolder(_("Folder for models, runs and logs"))
        if folder and self._attempt(lambda: userFolder.setPath(userFolder.within(folder))):
            self.refresh()
            self._listener.onStorageMoved()

    def _onFree(self, _checked: bool = False) -> None:
        places = [userFolder.place() / "logs", *runFolder.folders()]
        places = [place for place in places if not runFolder.isTaken(place)]
        size = _size(sum(map(temporaryFolders.size, places)))
        question = _(
            "Delete all runs and logs ({size})? Stopped trainings can no longer be resumed, and "
            "their reports are lost. Models are kept."
        ).format(size=size)
        if slicer.util.confirmOkCancelDisplay(question, _TITLE) and self._attempt(
            lambda: self._free(places)
        ):
            self.refresh()

    @staticmethod
    def _free(places: list[Path]) -> None:
        for place in places:
            if not runFolder.isTaken(place):  # resumed in another Slicer in the meantime
                elsewhere.forget(place)
                runFolder.discard(place)

    def _showMessage(self, text: str, isError: bool = False) -> None:
        messages.show(self._ui.modelsMessageLabel, text, isError)


def _imagesOf(card) -> str:
    """The modality and the channels of a model, "" if the card does not say."""
    channels = ", ".join(card.channels) if len(card.channels) > 1 else ""
    if card.modality and channels:
        return f"{card.modality} ({channels})"
    return card.modality or channels


def _isInUserFolder(folder: Path) -> bool:
    """Whether the folder itself, not only a link to it, is among the user's models."""
    return folder.parent == (userFolder.place() / "models").resolve()


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
