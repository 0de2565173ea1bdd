"""The worker process: sends requests and receives events (protocol: docs/architecture.md)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from UGMCLSegmentationLib.storage import computers
from UGMCLSegmentationLib.worker.child import Child, Ending, workerCommand
from UGMCLSegmentationLib.worker.incremental import Deadline

Event = dict[str, Any]
_LOADING = "ugmcl: loading PyTorch"  # as ugmcl_core.worker.server prints it
ENDS = ("result", "error", "canceled", "crashed")
_TRAININGS = ("finetune", "keep_learning", "estimate")  # commands


@dataclass
class Request:
    """A request, the receiver of its events, and whether any of them arrived."""

    content: dict[str, Any]
    onEvent: Callable[[Event], None]
    sent: bool = False
    isAnswered: bool = False
    folder: Path | None = None
    cancelFile: Path | None = None


class Worker:
    """The child process, started when it is first needed, one request at a time.

    The device of a request may be one of another computer (`computers.split`). The process then
    speaks for the worker there; another one replaces it when a request is for another computer.

    If its stdin does not reach it (no hello, an immediate end, or a request that it does not
    accept within `helloTimeout`), every request gets a process of its own, which reads the request
    from a file. Every request ends with one event of `ENDS`. This class adds "crashed", with a
    `message` for the panel and `details` for the log.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        killAfter: float = 4.0,
        quitAfter: float = 0.3,
    ) -> None:
        """After `killAfter` seconds a canceled request is killed with its process, and after
        `quitAfter` seconds the process when the panel ends."""
        self.command = list(command) if command else None
        self.helloTimeout = 10.0
        self.loadTimeout = 120.0  # in addition, while it reports that it is loading
        self.killAfter = killAfter
        self.quitAfter = quitAfter
        self.hello: Event | None = None
        self.onHello: Callable[[Event], None] = lambda event: None
        self.onLog: Callable[[str, str], None] = lambda level, text: None
        self.onBusy: Callable[[], None] = lambda: None  # a request began or ended
        self._oneShot = False
        self._destination = ""  # of the child
        self._isLoading = False
        self._child: Child | None = None
        self._request: Request | None = None
        self._count = 0
        self._helloDeadline = Deadline(self._onHelloLate)
        self._answerDeadline = Deadline(self._onAnswerLate)
        self._cancelDeadline = Deadline(self._onCancelLate)

    @property
    def busy(self) -> bool:
        return self._request is not None

    @property
    def pid(self) -> int:
        """The worker's process ID, 0 while there is none."""
        return self._child.workerPid if self._child else 0

    def start(self) -> None:
        """Start the process, which takes seconds to load, before the first request."""
        if self._child is None and not self._oneShot:
            self._isLoading = False
            self._helloDeadline.start(self.helloTimeout)
            self._launch(self._command())

    def _command(self) -> list[str]:
        return [*(self.command or workerCommand()), *computers.words(self._destination)]

    def request(
        self,
        content: dict[str, Any],
        onEvent: Callable[[Event], None],
        folder: Path | None = None,
    ) -> str:
        """Send a request. A previous request that has not ended is killed with its process.

        `folder` is private and holds the request's own files; the default is its output.
        """
        if self._request is not None:
            self.kill()
        self._count += 1
        content = {**content, "id": str(self._count)}
        self._goTo(content)
        self._request = Request(content, onEvent, folder=folder)
        self.onBusy()
        if self._oneShot:
            self._startJob()
        else:
            self.start()
            self._send()
        return content["id"]

    def _goTo(self, content: dict[str, Any]) -> None:
        """End the process if the request is for another computer than its own."""
        device, destination = computers.split(content.get("device", ""))
        if "device" in content:
            content["device"] = device
        if destination != self._destination:
            self._helloDeadline.stop()
            self._killChild()
            self._destination = destination

    @property
    def canSend(self) -> bool:
        """Whether the running request takes commands; without stdin it does not."""
        request = self._request
        return request is not None and request.sent and request.cancelFile is None

    def send(self, command: str) -> None:
        """Send a command about the running request, if it takes commands."""
        if self.canSend and self._child is not None:
            message = {"command": command, "id": self._request.content["id"]}
            self._child.writeLine(json.dumps(message))

    def cancel(self) -> None:
        """Cancel the request; kill the process if that takes too long."""
        request = self._request
        if request is None:
            return
        if not request.sent:
            self._finish({"event": "canceled"})
            return
        self._cancelDeadline.start(self.killAfter)
        if request.cancelFile is not None:
            self._touch(request.cancelFile)
        else:
            self.send("cancel")

    def kill(self) -> None:
        """End the process immediately; a running request ends as canceled."""
        self._helloDeadline.stop()
        self._killChild()
        self._finish({"event": "canceled"})

    def shutdown(self) -> None:
        """End the process without calling anyone; for the end of the panel."""
        request, self._request = self._request, None
        self.onHello = lambda event: None
        self.onLog = lambda level, text: None
        self._helloDeadline.stop()
        self._answerDeadline.stop()
        self._cancelDeadline.stop()
        child, self._child = self._child, None
        if child is None:
            return
        if request is not None and request.cancelFile is not None:
            with contextlib.suppress(OSError):
                request.cancelFile.touch()
        child.stop(patience=int(1000 * self.quitAfter))

    def _killChild(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _launch(self, command: Sequence[str]) -> None:
        self.hello = None
        child = Child(command, self._onLine, self._onEnd)
        self._child = child if child.running else None  # it may have failed to start

    def _send(self) -> None:
        request = self._request
        if request is None or request.sent or self.hello is None or self._child is None:
            return
        request.sent = True
        self._answerDeadline.start(self.helloTimeout)
        self._child.writeLine(json.dumps(request.content))

    def _startJob(self) -> None:
        """Start a process for one request, without a working stdin."""
        request = self._request
        if request is None:
            return
        folder = request.folder or Path(request.content["output"])
        job = folder / "job.json"
        request.cancelFile = folder / "cancel"
        try:
            request.cancelFile.unlink(missing_ok=True)  # of an earlier request
            job.write_text(json.dumps(request.content), encoding="utf-8")
        except OSError as error:  # such as a full disk
            text = _("The request cannot be written: {why}.").format(why=error.strerror)
            self._finish({"event": "error", "message": text})
            return
        request.sent = True
        self._killChild()  # of the previous request; it is ending anyway
        more = ["--job", str(job), "--cancel-file", str(request.cancelFile)]
        self._launch([*self._command(), *more])

    def _touch(self, cancelFile: Path) -> None:
        try:
            cancelFile.touch()
        except OSError:
            self.kill()  # the only way left

    def _fallBack(self, why: str) -> None:
        self._oneShot = True
        self.onLog("warning", why)
        self._killChild()
        self._startJob()

    def _onAnswerLate(self) -> None:
        """The process runs but gets no request: a launcher may not forward stdin."""
        if self._request is not None and not self._request.isAnswered:
            self._fallBack(_("The worker does not receive requests; every run starts it again."))

    def _onHelloLate(self) -> None:
        if self.hello is not None:
            return
        if not self._isLoading and self._child is not None and self._child.hasPrinted(_LOADING):
            self._isLoading = True
            self.onLog("info", _("PyTorch takes long to load; later starts are faster."))
            self._helloDeadline.start(self.loadTimeout)
            return
        self._fallBack(_("The worker did not answer; every run starts it again."))

    def _onCancelLate(self) -> None:
        if self._request is not None:
            self.kill()

    def _onLine(self, line: str) -> None:
        try:
            event = json.loads(line)
            name = event["event"]
        except (ValueError, TypeError, KeyError):
            self.onLog("info", line)  # a library that prints
            return
        if name == "hello":
            self._helloDeadline.stop()
            self.hello = event
            if self._child is not None:
                self._child.workerPid = int(event.get("pid") or 0)
            if not self._destination:
                self.onHello(event)
            self._send()
            return
        if name == "error" and event.get("id") is None:
            self._cannotStart(event)
            return
        request = self._request
        if request is None or event.get("id") != request.content["id"]:
            return  # of a request that was dropped
        request.isAnswered = True
        self._answerDeadline.stop()
        if name == "accepted":
            return
        if name in ENDS:
            self._finish(event)
        else:
            request.onEvent(event)

    def _cannotStart(self, event: Event) -> None:
        """The worker reports why it cannot start and ends, for example without PyTorch."""
        self._helloDeadline.stop()
        self._killChild()  # its end needs no other message
        if self._request is None:
            self.onLog("warning", str(event.get("message")))
        self._finish(event)

    def _onEnd(self, ending: Ending) -> None:
        self._helloDeadline.stop()
        self._child = None
        request = self._request
        if request is None:
            if (ending.code or ending.signal) and ending.lastWords:
                self.onLog("warning", ending.lastWords)
            return
        isSilent = not ending.code and not ending.signal
        if isSilent and not request.isAnswered and not self._oneShot:
            self._fallBack(_("The worker does not receive requests; every run starts it again."))
            return
        message = _why(ending, request.content.get("command", ""))
        self._finish({"event": "crashed", "message": message, "details": ending.lastWords})

    def _finish(self, event: Event) -> None:
        self._cancelDeadline.stop()
        self._answerDeadline.stop()
        request, self._request = self._request, None
        if request is not None:
            request.onEvent(event)
            self.onBusy()


def _why(ending: Ending, command: str) -> str:
    """One line for the panel, about the process that carried out the command."""
    isTraining = command in _TRAININGS
    lines = ending.lastWords.splitlines()
    last = lines[-1].strip() if lines else _("it left no message")
    if not ending.hasStarted:
        text = _("The segmentation process could not be started: {words}")
        if isTraining:
            text = _("The training process could not be started: {words}")
        return text.format(words=last)
    if ending.wasKilled and isTraining:
        return _(
            "The training process was killed, probably for lack of memory: close other programs."
        )
    if ending.wasKilled:
        return _(
            "The segmentation process was killed, probably for lack of memory: "
            "choose a region, or close other programs."
        )
    if ending.signal:
        how = _("signal {n}").format(n=ending.signal)
    else:
        how = _("exit code {n}").format(n=ending.code)
    text = _("The segmentation process ended unexpectedly ({how}): {words}")
    if isTraining:
        text = _("The training process ended unexpectedly ({how}): {words}")
    return text.format(how=how, words=last)
