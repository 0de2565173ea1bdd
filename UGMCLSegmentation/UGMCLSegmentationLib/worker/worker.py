"""The worker behind the panel: requests and events of the protocol in docs/architecture.md."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from UGMCLSegmentationLib.worker.child import Child, Ending, workerCommand
from UGMCLSegmentationLib.worker.steps import Deadline

Event = dict[str, Any]
_LOADING = "ugmcl: loading PyTorch"  # as ugmcl_core.worker.server says it
ENDS = ("result", "error", "canceled", "crashed")


@dataclass
class Request:
    """What the worker was asked, who listens, and whether it was heard of since."""

    content: dict[str, Any]
    onEvent: Callable[[Event], None]
    sent: bool = False
    heard: bool = False
    folder: Path | None = None
    cancelFile: Path | None = field(default=None)


class Worker:
    """The child process, started when it is first needed, one request at a time.

    Where its stdin does not reach it (no hello, an end at once, or a request that it does not
    accept within the time that a hello may take), every request gets a process
    of its own that reads it from a file. A last event of `ENDS` follows every request; "crashed"
    is this class's own, with the `message` for the panel and the `details` for the log.
    """

    def __init__(self, command: Sequence[str] | None = None, killAfter: float = 4.0) -> None:
        """`killAfter` are the seconds that a request may take to stop, and the process to end."""
        self.command = list(command) if command else None
        self.helloTimeout = 10.0
        self.loadTimeout = 120.0  # further, for one that says that it is loading
        self.killAfter = killAfter
        self.hello: Event | None = None
        self.onHello: Callable[[Event], None] = lambda event: None
        self.onLog: Callable[[str, str], None] = lambda level, text: None
        self._oneShot = False
        self._isLoading = False
        self._child: Child | None = None
        self._request: Request | None = None
        self._count = 0
        self._helloDeadline = Deadline(self._helloIsLate)
        self._heardDeadline = Deadline(self._answerIsLate)
        self._cancelDeadline = Deadline(self._cancelIsLate)

    @property
    def busy(self) -> bool:
        return self._request is not None

    @property
    def pid(self) -> int:
        """Of the worker itself, 0 while there is none."""
        return self._child.workerPid if self._child else 0

    def start(self) -> None:
        """Have the child ready (it takes seconds to load), without asking it anything."""
        if self._child is None and not self._oneShot:
            self._isLoading = False
            self._helloDeadline.start(self.helloTimeout)
            self._launch(self.command or workerCommand())

    def request(
        self,
        content: dict[str, Any],
        onEvent: Callable[[Event], None],
        folder: Path | None = None,
    ) -> str:
        """Ask for something; a former request that does not end is dropped with its process.

        `folder` is a private one for the request's own files, by default its output's.
        """
        if self._request is not None:
            self.kill()
        self._count += 1
        content = {**content, "id": str(self._count)}
        self._request = Request(content, onEvent, folder=folder)
        if self._oneShot:
            self._startJob()
        else:
            self.start()
            self._send()
        return content["id"]

    @property
    def canTell(self) -> bool:
        """Whether something can be said about the request under way; not without stdin."""
        request = self._request
        return request is not None and request.sent and request.cancelFile is None

    def tell(self, command: str) -> None:
        """Say something about the request under way, if it is heard."""
        if self.canTell and self._child is not None:
            message = {"command": command, "id": self._request.content["id"]}
            self._child.writeLine(json.dumps(message))

    def cancel(self) -> None:
        """Stop the request: by asking, and by force when that takes too long."""
        request = self._request
        if request is None:
            return
        if not request.sent:
            self._finish({"event": "canceled"})
            return
        self._cancelDeadline.start(self.killAfter)
        if request.cancelFile is not None:
            self._touch(request.cancelFile)
        elif self._child is not None:
            self._child.writeLine(json.dumps({"command": "cancel", "id": request.content["id"]}))

    def kill(self) -> None:
        """End the process at once; a request under way ends as canceled."""
        self._helloDeadline.stop()
        child, self._child = self._child, None
        if child is not None:
            child.kill()
        self._finish({"event": "canceled"})

    def shutdown(self) -> None:
        """For the end of the panel: no process is left, nobody is told."""
        request, self._request = self._request, None
        self.onHello = lambda event: None
        self.onLog = lambda level, text: None
        self._helloDeadline.stop()
        self._heardDeadline.stop()
        self._cancelDeadline.stop()
        child, self._child = self._child, None
        if child is None:
            return
        if request is not None and request.cancelFile is not None:
            with contextlib.suppress(OSError):
                request.cancelFile.touch()
        # what a request has under way, such as a checkpoint, may be finished
        child.stop(patience=int(1000 * self.killAfter) if request is not None else 300)

    def _launch(self, command: Sequence[str]) -> None:
        self.hello = None
        child = Child(command, self._onLine, self._onEnd)
        self._child = child if child.running else None  # it may have failed to start by now

    def _send(self) -> None:
        request = self._request
        if request is None or request.sent or self.hello is None or self._child is None:
            return
        request.sent = True
        self._heardDeadline.start(self.helloTimeout)
        self._child.writeLine(json.dumps(request.content))

    def _startJob(self) -> None:
        """One process for one request: the way without a working stdin."""
        request = self._request
        if request is None:
            return
        folder = request.folder or Path(request.content["output"])
        job = folder / "job.json"
        request.cancelFile = folder / "cancel"
        try:
            request.cancelFile.unlink(missing_ok=True)  # of a run that is resumed
            job.write_text(json.dumps(request.content), encoding="utf-8")
        except OSError as error:  # a full disk, say
            text = _("The request cannot be written: {why}.").format(why=error.strerror)
            self._finish({"event": "error", "message": text})
            return
        request.sent = True
        if self._child is not None:
            self._child.kill()  # of the former request, about to end anyway
        command = self.command or workerCommand()
        self._launch([*command, "--job", str(job), "--cancel-file", str(request.cancelFile)])

    def _touch(self, cancelFile: Path) -> None:
        try:
            cancelFile.touch()
        except OSError:
            self.kill()  # it cannot be asked

    def _fallBack(self, why: str) -> None:
        self._oneShot = True
        self.onLog("warning", why)
        child, self._child = self._child, None
        if child is not None:
            child.kill()
        self._startJob()

    def _answerIsLate(self) -> None:
        """It said hello, but what it is told does not arrive: a launcher keeps it, say."""
        if self._request is not None and not self._request.heard:
            self._fallBack(_("The worker cannot be spoken to; starting it anew for every run."))

    def _helloIsLate(self) -> None:
        if self.hello is not None:
            return
        if not self._isLoading and self._child is not None and self._child.hasSaid(_LOADING):
            self._isLoading = True
            self.onLog("info", _("PyTorch takes its time to load; later starts are quicker."))
            self._helloDeadline.start(self.loadTimeout)
            return
        self._fallBack(_("The worker did not answer; starting it anew for every run."))

    def _cancelIsLate(self) -> None:
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
            self.onHello(event)
            self._send()
            return
        if name == "error" and event.get("id") is None:
            self._cannotStart(event)
            return
        request = self._request
        if request is None or event.get("id") != request.content["id"]:
            return  # of a request that was given up
        request.heard = True
        self._heardDeadline.stop()
        if name == "accepted":
            return
        if name in ENDS:
            self._finish(event)
        else:
            request.onEvent(event)

    def _cannotStart(self, event: Event) -> None:
        """It says why, and ends: PyTorch cannot be loaded, say."""
        self._helloDeadline.stop()
        child, self._child = self._child, None
        if child is not None:
            child.kill()  # its end is nobody else's
        if self._request is None:
            self.onLog("warning", str(event.get("message")))
        self._finish(event)

    def _onEnd(self, ending: Ending) -> None:
        self._helloDeadline.stop()
        self._child = None
        request = self._request
        if request is None:
            if (ending.code or ending.signal) and ending.words:
                self.onLog("warning", ending.words)
            return
        isSilent = not ending.code and not ending.signal
        if isSilent and not request.heard and not self._oneShot:
            self._fallBack(_("The worker cannot be spoken to; starting it anew for every run."))
            return
        self._finish({"event": "crashed", "message": _why(ending), "details": ending.words})

    def _finish(self, event: Event) -> None:
        self._cancelDeadline.stop()
        self._heardDeadline.stop()
        request, self._request = self._request, None
        if request is not None:
            request.onEvent(event)


def _why(ending: Ending) -> str:
    """One line for the panel."""
    last = ending.words.splitlines()[-1].strip() if ending.words else _("it left no message")
    if not ending.hasStarted:
        return _("The segmentation process could not be started: {words}").format(words=last)
    if ending.wasKilled:
        return _(
            "The segmentation process was killed, probably for lack of memory: "
            "choose a region, or close other programs."
        )
    if ending.signal:
        how = _("signal {n}").format(n=ending.signal)
    else:
        how = _("exit code {n}").format(n=ending.code)
    return _("The segmentation process ended unexpectedly ({how}): {words}").format(
        how=how, words=last
    )
