"""Keep learning on another computer: new cases go there while it runs, and models that take over
come here.

It runs detached like every training there. Without anybody at this end it goes on with the cases
that it has, and ends as one here does: when nothing is learned any more and no case comes.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Canceled, InputError
from ..models.model import open_model, verify
from ..training.settings import REPORT, KeepLearningSettings
from ..worker.progress import Control, Send
from .connection import ConnectionLost
from .session import Advance, Session
from .trainings import Record, WorkerTraining

if TYPE_CHECKING:
    from .handler import Names, RemoteHandler

ADD_CASE = "add_case"
_MODEL = "model"
_TRIES = 3


def keep_learning(
    handler: RemoteHandler, request: KeepLearningSettings, send: Send, control: Control
) -> dict[str, Any]:
    """Keep learning there and return the `result` of docs/architecture.md, its files here. Raises
    InputError and Canceled."""
    report = Path(request.output).expanduser() / REPORT
    if request.resume and report.is_file():
        return json.loads(report.read_text(encoding="utf-8"))
    return _Learning(handler, request, send, control).run()


class _Learning(WorkerTraining):
    passed_on = (*WorkerTraining.passed_on, "joined", "waiting")

    def __init__(
        self,
        handler: RemoteHandler,
        request: KeepLearningSettings,
        send: Send,
        control: Control,
    ) -> None:
        super().__init__(handler, request, send, control)
        # what was added here, or took over there, while nobody was connected
        self._words = [ADD_CASE] if request.resume else []
        self._is_outdated = request.resume
        self._checks: list[dict[str, Any]] = []

    def moves(
        self, session: Session, record: Record, is_continued: bool, advance: Advance
    ) -> tuple[dict[str, str], Record]:
        return self.sent(session, record, advance)

    def take(self, log: str, text: str, known: Names) -> bool:
        with contextlib.suppress(ValueError):
            event = json.loads(text)
            if isinstance(event, dict) and event.get("event") == "check":
                event = known.here(event)
                self._checks.append({k: v for k, v in event.items() if k not in ("event", "id")})
                self._is_outdated |= bool(event.get("taken"))
                return True
        return super().take(log, text, known)

    def tend(self, session: Session, record: Record, known: Names) -> Record:
        """Fetch the model that took over, then report it; pass on what was said here."""
        if self._is_outdated:
            self._fetch(session)
            self._is_outdated = False
        while self._checks:
            self.send("check", **self._checks.pop(0))
        self._words += self.control.told()
        while self._words:
            moves: dict[str, str] = {}
            try:
                if self._words[0] == ADD_CASE:
                    moves, record = self.sent(session, record, lambda fraction, text: None)
                session.do("say", "said", run=record.run, word=self._words[0], move=moves)
                session.forget_sent(*moves)
                known.update(self.names(session, record))
            except Canceled:  # its end is reported next
                return record
            except ConnectionLost:
                raise
            except InputError as error:
                self.send("log", level="warning", text=str(error))
            del self._words[0]
        return record

    def _fetch(self, session: Session) -> None:
        """Fetch the model; again if another one took over in the meantime."""
        for left in reversed(range(_TRIES)):
            if not self.follower.fetch_in(session, _MODEL):
                return
            try:
                verify(open_model(self.output / _MODEL))
                return
            except InputError:
                if not left:
                    raise
