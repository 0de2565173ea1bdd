"""Computers: the list of other computers, their tests, and what is installed and stored there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.qtHelpers import (
    HEADER,
    ROW,
    Connections,
    enable,
    setUpTable,
    silent,
)
from UGMCLSegmentationLib.storage import computers
from UGMCLSegmentationLib.storage.computers import KnownComputer
from UGMCLSegmentationLib.worker.child import Child, Ending, pythonExecutable

_TITLE = "UGMCL Segmentation"


class ComputersSection:
    def __init__(self, ui, connections: Connections, onChanged: Callable[[], None]) -> None:
        """`onChanged` is called when the list, or the facts about a computer, have changed."""
        self._ui = ui
        self._onChanged = onChanged
        self._child: Child | None = None
        self._answer: dict[str, Any] = {}
        setUpTable(ui.computersTable)
        # a state is a sentence, or several devices: it takes as many lines as it needs
        ui.computersTable.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        for widget, signal, slot in (
            (ui.modelsSection, "toggled(bool)", lambda _isOpen: self.refresh()),
            (ui.computersTable, "itemSelectionChanged()", self._update),
            (ui.computersTable.verticalHeader(), "sectionResized(int,int,int)",
             lambda *_sizes: self._fit()),
            (ui.addComputerButton, "clicked(bool)", self._onAdd),
            (ui.testComputerButton, "clicked(bool)", self._onTest),
            (ui.stopComputerButton, "clicked(bool)", self._onStop),
            (ui.computerCommandEdit, "editingFinished()", self._onCommand),
            (ui.cleanComputerButton, "clicked(bool)", self._onClean),
            (ui.removeComputerButton, "clicked(bool)", self._onRemove),
        ):
            connections.connect(widget, signal, slot)
        self._show("")
        self.refresh()

    @property
    def running(self) -> bool:
        return self._child is not None

    def close(self) -> None:
        """End the process; for the end of the panel."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def refresh(self, selected: str = "") -> None:
        """Show the list, and select the computer of this name, or the one that was selected."""
        table, known = self._ui.computersTable, computers.listing()
        selected = selected or self._selected
        names = [c.destination for c in known]
        with silent(table):
            table.setColumnCount(2)
            table.setHorizontalHeaderLabels([_("Computer"), _("State")])
            table.setRowCount(len(known))
            for row, computer in enumerate(known):
                texts = (computer.destination, computer.state or _("not tested"))
                for column, text in enumerate(texts):
                    item = qt.QTableWidgetItem(text)
                    item.setToolTip(text)
                    table.setItem(row, column, item)
            if names:
                table.selectRow(names.index(selected) if selected in names else 0)
        table.setVisible(bool(known))
        self._fit()
        self._update()

    def _fit(self) -> None:
        """Make the table as high as its rows, at most as eight lines."""
        table = self._ui.computersTable
        heights = [table.rowHeight(row) for row in range(table.rowCount)]
        table.setFixedHeight(HEADER + min(8 * ROW, max(ROW, sum(heights))))

    @property
    def _selected(self) -> str:
        table = self._ui.computersTable
        item = table.item(table.currentRow(), 0)
        return item.text() if item is not None else ""

    def _update(self) -> None:
        ui = self._ui
        name, running = self._selected, self.running
        reason = _("A test or an installation is running.") if running else ""
        enable(ui.addComputerButton, _("Add a computer that ssh can log in to without a password, "
               "as user@host or by its name in ~/.ssh/config."), unless=reason)  # fmt: skip
        if not name:
            reason = _("Add a computer first.")
        for button, text in (
            (ui.testComputerButton, _("Connect to the computer and show its devices. If it lacks "
                                      "this program, offer to install it.")),
            (ui.cleanComputerButton, _("Remove the models and the ended trainings that are stored "
                                       "on the computer.")),
            (ui.removeComputerButton, _("Remove the computer from the list. What is stored there "
                                        "stays.")),
        ):  # fmt: skip
            enable(button, text, unless=reason)
        ui.computerCommandEdit.setVisible(bool(name))
        ui.computerCommandEdit.enabled = not running
        if not ui.computerCommandEdit.hasFocus():
            ui.computerCommandEdit.text = computers.find(name).command if name else ""
        ui.testComputerButton.setVisible(not running)
        ui.stopComputerButton.setVisible(running)

    # Actions of the user

    def _onAdd(self, _checked: bool = False) -> None:
        question = _("A computer that ssh can log in to without a password (user@host):")
        name = qt.QInputDialog.getText(
            slicer.util.mainWindow(), _TITLE, question, qt.QLineEdit.Normal, ""
        )
        name = (name or "").strip()
        if not name:
            return
        with messages.showingErrors(self._ui.computersLabel, _("The computer cannot be added.")):
            computers.save(computers.find(name))
            self.refresh(name)
            self._onChanged()
            self._onTest()

    def _onCommand(self) -> None:
        known, command = computers.find(self._selected), self._ui.computerCommandEdit.text.strip()
        if self._selected and command != known.command:
            computers.save(replace(known, command=command, state="", devices=()))
            self.refresh()
            self._onChanged()

    def _onTest(self, _checked: bool = False) -> None:
        known = computers.find(self._selected)
        self._show(_("Connecting to {name}…").format(name=known.destination))
        self._start("test", known, self._onTested)

    def _onClean(self, _checked: bool = False) -> None:
        known = computers.find(self._selected)
        question = _(
            "Delete all models and ended trainings of this program on {name}? Trainings whose "
            "result was not fetched are lost."
        ).format(name=known.destination)
        if slicer.util.confirmOkCancelDisplay(question, _TITLE):
            self._start("clean", known, self._onCleaned, "--yes")

    def _onRemove(self, _checked: bool = False) -> None:
        computers.remove(self._selected)
        self._show("")
        self.refresh()
        self._onChanged()

    def _onStop(self, _checked: bool = False) -> None:
        self.close()
        self._show(_("Stopped."))
        self._update()

    # The process that connects

    def _start(
        self,
        action: str,
        known: KnownComputer,
        onDone: Callable[[KnownComputer, dict[str, Any]], None],
        *more: str,
    ) -> None:
        self._answer = {}
        words = ["computers", action, known.destination, "--json", *more]
        if known.command:
            words.append(f"--on-command={known.command}")

        def ended(ending: Ending) -> None:
            self._child = None
            answer = self._answer
            if answer:
                onDone(known, answer)
            else:
                self._onFailed(known, action, ending)
            self.refresh()

        program = [pythonExecutable(), "-m", "ugmcl_core", *words]
        child = Child(program, self._onLine, ended)
        self._child = child if child.running else None
        self._update()

    def _onLine(self, line: str) -> None:
        try:
            answer = json.loads(line)
        except ValueError:
            return
        if isinstance(answer, dict):
            self._answer = answer

    def _onFailed(self, known: KnownComputer, action: str, ending: Ending) -> None:
        lines = ending.lastWords.splitlines() or [_("It left no message.")]
        text = lines[-1].removeprefix("ugmcl: ")
        self._show(messages.asSentence(text), isError=True)
        if action != "clean":
            state = text.removeprefix(f"{known.destination} ")
            self._save(replace(known, state=state, devices=()))

    def _onTested(self, known: KnownComputer, answer: dict[str, Any]) -> None:
        if answer.get("installed"):
            self._onReady(known, answer)
            return
        text = str(answer.get("message"))
        self._show(text, isError=True)
        self._save(replace(known, state=_("ugmcl is not installed"), devices=()))
        python = answer.get("python") or {}
        if known.command or not python:
            if not python and not known.command:
                missing = _("There is no Python 3.10 to 3.13 with venv on {name}.")
                self._show(missing.format(name=known.destination), isError=True)
            return
        free = answer.get("free_bytes")
        room = "" if free is None else _(" {n:.0f} GB of disk are free.").format(n=free / 1e9)
        question = _(
            "ugmcl is missing on {name}, or has another version. Install it there with Python "
            "{version}, PyTorch and what they need, in a folder of your own (~/.ugmcl/"
            "environment)? It takes several GB with CUDA, and minutes.{room}"
        ).format(name=known.destination, version=python.get("version"), room=room)
        if slicer.util.confirmOkCancelDisplay(question, _TITLE):
            self._show(_("Installing on {name}. This takes minutes.").format(
                name=known.destination))  # fmt: skip
            self._start("install", known, self._onReady, "--yes")

    def _onReady(self, known: KnownComputer, answer: dict[str, Any]) -> None:
        devices = tuple((d["name"], d["text"]) for d in answer.get("devices") or ())
        gpus = {g["name"]: g["memory_mib"] for g in answer.get("gpus") or ()}
        texts = [
            _("{gpu} ({n:.0f} GiB)").format(gpu=text, n=gpus[text] / 1024)
            if text in gpus
            else text
            for name, text in devices
            if name != "cpu" or len(devices) == 1
        ]
        self._save(replace(known, state=", ".join(texts), devices=devices))
        parts = [
            _("{name} is ready: ugmcl {version}, Python {python}, PyTorch {torch}.").format(
                name=known.destination,
                version=answer.get("version"),
                python=answer.get("python"),
                torch=answer.get("torch"),
            ),
            _("{cores} CPU cores, {memory:.0f} GiB of memory, {free:.0f} GB of disk free.").format(
                cores=answer.get("cpus"),
                memory=answer.get("memory_bytes", 0) / 2**30,
                free=answer.get("free_bytes", 0) / 1e9,
            ),
        ]
        if kept := answer.get("kept_bytes"):
            parts.append(
                _("{n:.1f} MB of models and trainings are stored there.").format(n=kept / 1e6)
            )
        self._show("\n".join(parts))

    def _onCleaned(self, known: KnownComputer, answer: dict[str, Any]) -> None:
        text = _("{n:.1f} MB were deleted on {name}.")
        self._show(text.format(n=answer.get("bytes", 0) / 1e6, name=known.destination))

    def _save(self, known: KnownComputer) -> None:
        try:
            computers.save(replace(known, isAgreed=computers.find(known.destination).isAgreed))
        except PanelError as error:
            self._show(str(error), isError=True)
        self._onChanged()

    def _show(self, text: str, isError: bool = False) -> None:
        messages.show(self._ui.computersLabel, text, isError)
