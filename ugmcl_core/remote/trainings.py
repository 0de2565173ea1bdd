"""Trainings on another computer. They run detached there: a lost connection, or the end of this
program, does not end them, and they can be followed again or fetched later."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Canceled, InputError, LeftAlone
from ..files import exchange, scratch, write_json
from ..models.model import resolve
from ..training.settings import REPORT, FinetuneSettings, KeepLearningSettings, finished
from ..worker.progress import Control, Send
from . import cases, runs, wire
from .connection import ConnectionLost
from .session import GOING, Advance, Session, new_run

if TYPE_CHECKING:
    from .handler import Names, RemoteHandler

RECORD = "there.json"
"""In the folder of a training here: where it runs."""
PATIENCE = 120.0
"""Seconds to try to get a lost connection back before giving up."""
_POLL = 0.05
_SAVE_EVERY = 1.0
_STOPPING = 60.0
_LIST = f"{runs.CASES}/list/cases.json"
_ENDS = ("result", "error", "canceled")


@dataclass(frozen=True)
class Record:
    """Where a training runs, and how far its two logs were read."""

    computer: str
    run: str
    out: int = 0
    errors: int = 0
    sent: tuple[str, ...] = ()  # `cases.SentCases.folders` that it has

    @classmethod
    def read(cls, output: Path) -> Record | None:
        """That of a training's folder; None if it runs nowhere else."""
        try:
            content = json.loads((output / RECORD).read_text(encoding="utf-8"))
            places = int(content["out"]), int(content["errors"])
            sent = tuple(map(str, content.get("sent", ())))
            return cls(str(content["computer"]), wire.run_name(content["run"]), *places, sent)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, output: Path) -> None:
        write_json(output / RECORD, asdict(self))


def refuse_elsewhere(output: Path, resume: bool) -> None:
    """InputError where a training that is to be resumed here runs on another computer."""
    record = Record.read(output)
    if resume and record is not None:
        raise InputError(
            f"{output}: this training is on {record.computer}: resume it with --on "
            f"{record.computer}"
        )


def finetune(
    handler: RemoteHandler, request: FinetuneSettings, send: Send, control: Control
) -> dict[str, Any]:
    """Fine-tune there and return the `result` of docs/architecture.md, its files here. Raises
    InputError and Canceled."""
    output = Path(request.output).expanduser()
    if request.resume and (output / REPORT).is_file():
        return finished(output, request)
    return WorkerTraining(handler, request, send, control).run()


class WorkerTraining:
    """A training that a request of the worker protocol describes."""

    passed_on: tuple[str, ...] = ("progress", "log", "metrics", "memory")
    """The events that are passed on."""

    def __init__(
        self,
        handler: RemoteHandler,
        request: FinetuneSettings | KeepLearningSettings,
        send: Send,
        control: Control,
    ) -> None:
        self.handler, self.request = handler, request
        self.send, self.control = send, control
        self.output = Path(request.output).expanduser()
        self._last: dict[str, Any] = {}
        self._last_words = ""
        self.follower = _Follower(
            handler, self.output, send, control, self.begin, self.names, self.take, self.tend
        )

    def run(self) -> dict[str, Any]:
        """The `result`, its files here. Raises InputError and Canceled."""
        follower, last = self.follower, self._last
        code, resumable = follower.run(self.request.resume)
        event = last.pop("event", "")
        if event == "result":
            follower.fetch()
            write_json(self.output / REPORT, last)  # with this computer's paths
            follower.forget()
            return last
        if event == "canceled":
            follower.fetch("model")
            raise Canceled
        if event == "error":
            if not resumable:
                follower.forget()
            raise InputError(str(last.get("message")))
        why = "was killed, probably for lack of memory"
        if code is not None:
            why = f"ended ({self._last_words})"
        place = self.handler.computer.destination
        raise InputError(f"the training on {place} {why}; resume it to continue")

    def begin(self, session: Session, former: Record | None) -> Record:
        """Start it, or continue that of a record."""
        from .handler import Steps

        request = self.request
        record = former or Record(self.handler.computer.destination, new_run())
        place = f"{session.runs}/{record.run}"
        words = ["worker", "--job", f"{place}/{runs.REQUEST}", "--cancel-file",
                 f"{place}/{runs.CANCEL}", "--pause-file", f"{place}/{runs.PAUSE}",
                 "--told-file", f"{place}/{runs.TOLD}"]  # fmt: skip
        advance = Steps(self.send).part(0.0, 1.0)
        base = ""
        if request.base:
            base = session.model(resolve(request.base), self.control, advance)
        content = {
            **request.request(),
            "id": record.run,
            "case_list": f"{place}/{_LIST}",
            "base": base,
            "output": f"{place}/{runs.OUTPUT}",
            "resume": former is not None,
        }
        moves, record = self.moves(session, record, former is not None, advance)
        session.do("start", "started", run=record.run, words=words, request=content, move=moves,
                   what=content["command"])  # fmt: skip
        session.forget_sent(*moves)
        return record

    def moves(
        self, session: Session, record: Record, is_continued: bool, advance: Advance
    ) -> tuple[dict[str, str], Record]:
        """Where the files that were sent go in the training, and the record that includes them."""
        return ({}, record) if is_continued else self.sent(session, record, advance)

    def sent(
        self, session: Session, record: Record, advance: Advance
    ) -> tuple[dict[str, str], Record]:
        """`moves` after the files that the training lacks, and the case list, were sent."""
        place = f"{session.runs}/{record.run}"
        listed = cases.read(Path(self.request.case_list))
        sent = cases.send(session, listed, self.control, advance, record.sent)
        paths = {p: f"{place}/{runs.CASES}/{name}" for p, name in listed.names().items()}
        folder = cases.write_list(session, listed.with_paths(paths), self.control)
        moves = {**sent.moves(), f"{folder}/cases.json": _LIST}
        return moves, replace(record, sent=sent.folders)

    def names(self, session: Session, record: Record) -> Names:
        """The files of the training there, by their names here."""
        from .handler import Names

        place = f"{session.runs}/{record.run}"
        known = {f"{place}/{runs.OUTPUT}": str(self.output)}
        known[f"{place}/{_LIST}"] = self.request.case_list
        with contextlib.suppress(InputError):  # it may have been removed here
            listed = cases.read(Path(self.request.case_list)).names()
            known.update({f"{place}/{runs.CASES}/{n}": str(p) for p, n in listed.items()})
        return Names(known)

    def take(self, log: str, text: str, known: Names) -> bool:
        """Take a line that the training printed; whether it need not be read again."""
        if log == runs.ERRORS:
            self._last_words = text.strip() or self._last_words
            return True
        event = known.here(wire.message_of(text.encode()) or {})
        name = event.pop("event", "")
        event.pop("id", None)
        if name in _ENDS:
            self._last.update({"event": name, **event})
            return False
        if name in self.passed_on:
            self.send(name, **event)
        return True

    def tend(self, session: Session, record: Record, known: Names) -> Record:
        """Do what else is due while following; returns the new record."""
        return record


def train(
    handler: RemoteHandler,
    words: Sequence[str],
    files: Mapping[str, dict[str, Path]],
    base: str,
    output: Path,
    resume: bool,
    send: Send,
    say: Callable[[str, str], None],
    control: Control,
) -> int:
    """`ugmcl train` there with these words, in which {cases}, {base} and {output} stand for the
    places there; ``files`` are the folders of the cases by name, with their files by name. ``say``
    gets each line with the log that it is of. Returns the exit code there; raises InputError and
    Canceled."""
    from .handler import Names, Steps

    def begin(session: Session, former: Record | None) -> Record:
        record = former or Record(handler.computer.destination, new_run())
        place = f"{session.runs}/{record.run}"
        advance = Steps(send).part(0.0, 1.0)
        known = {"{cases}": f"{place}/{runs.CASES}", "{output}": f"{place}/{runs.OUTPUT}"}
        known["{base}"] = session.model(resolve(base), control, advance) if base else ""
        there = [_filled(w, known) for w in words] + (["--resume"] if former else [])
        moves = {}
        for name, several in files.items() if former is None else ():
            folder = session.folder("files")
            session.send_files(several, folder, control, advance)
            moves[folder] = f"{runs.CASES}/{name}"
        session.do("start", "started", run=record.run, words=["train", *there], move=moves,
                   what="train")  # fmt: skip
        return record

    def names(session: Session, record: Record) -> Names:
        return Names({f"{session.runs}/{record.run}/{runs.OUTPUT}": str(output)})

    def take(log: str, text: str, known: Names) -> bool:
        say(log, known.here(text))
        return True

    follower = _Follower(
        handler, output, send, control, begin, names, take, lambda _session, record, _known: record
    )
    code, resumable = follower.run(resume)
    if code == 0:
        follower.fetch()
        follower.forget()
        return 0
    if code is None:
        raise InputError(
            f"the training on {handler.computer.destination} was killed, probably for lack of "
            "memory; resume it to continue"
        )
    if resumable:
        follower.fetch("model")
    else:
        follower.forget()
    return code


def _filled(word: str, known: Mapping[str, str]) -> str:
    for name, place in known.items():
        word = word.replace(name, place)
    return word


class _Follower:
    """Starts a training or attaches to it, through lost connections, until it has ended."""

    def __init__(
        self,
        handler: RemoteHandler,
        output: Path,
        send: Send,
        control: Control,
        begin: Callable[[Session, Record | None], Record],
        names: Callable[[Session, Record], Any],
        take: Callable[[str, str, Any], bool],
        tend: Callable[[Session, Record, Any], Record],
    ) -> None:
        """``begin`` starts it, or continues that of a record; ``take`` gets each line that it
        prints, and returns whether that need not be read again; ``tend`` is called in between."""
        self._handler, self._output = handler, output
        self._send, self._control = send, control
        self._begin, self._names, self._take, self._tend = begin, names, take, tend
        self._record: Record | None = None
        self._saved = 0.0
        self._name = handler.computer.destination

    def run(self, resume: bool) -> tuple[int | None, bool]:
        """The exit code of the training, None if it was killed, and whether it can be resumed.

        Raises InputError, Canceled if it was stopped while the connection was lost or if nobody
        waits for it any more, and KeyboardInterrupt after Ctrl-C, which stops it.
        """
        self._start(resume)
        session = self._handler.session(self._send, self._control)
        try:
            return self._through_losses(lambda session: self._follow(session))
        except KeyboardInterrupt as error:
            if not isinstance(error, LeftAlone):
                with contextlib.suppress(InputError):
                    self._stopped(session)
            raise
        finally:
            self._save()

    def fetch(self, below: str = "") -> None:
        """Move the output of the training here, or one entry of it; without its checkpoints."""

        self._through_losses(lambda session: self.fetch_in(session, below))

    def fetch_in(self, session: Session, below: str = "") -> list[str]:
        """`fetch` in a session; the names of the files. Raises ConnectionLost."""
        from .handler import Steps

        self._output.mkdir(parents=True, exist_ok=True)
        source = {"run": self._record.run, **({"below": below} if below else {})}
        with scratch(self._output) as partial:
            advance = Steps(self._send).part(0.99, 1.0)
            # GOING: the model of a canceled training is fetched too
            names = session.get(partial / "new", GOING, advance, **source)
            if names:
                entries = sorted({name.split("/")[0] for name in names})
                for entry in entries:
                    (partial / "new" / entry).rename(partial / entry)
                exchange(partial, self._output, entries)
        return names

    def forget(self) -> None:
        """Remove the training there."""
        with contextlib.suppress(InputError):  # `ugmcl computers clean` finds it later
            session = self._handler.session(self._send, self._control)
            session.do("forget", "forgotten", run=self._record.run)
        (self._output / RECORD).unlink(missing_ok=True)

    def _start(self, resume: bool) -> None:
        record = Record.read(self._output)
        if record is not None and record.computer != self._name:
            refuse_elsewhere(self._output, resume)
            record = None
        if resume and record is None and any(self._output.rglob(runs.CHECKPOINT)):
            raise InputError(
                f"{self._output}: this training was begun on this computer: resume it without "
                "--on"
            )
        session = self._handler.session(self._send, self._control)
        if record is not None and not resume:
            session.do("forget", "forgotten", run=record.run)
            record = None
        if record is not None:
            state = session.do("state", "state", run=record.run)["state"]
            if state == runs.GONE:
                record = None
            elif state == runs.STOPPED:
                self._begin(session, record)
        if record is None:
            record = self._begin(session, None)
        self._record = record
        self._output.mkdir(parents=True, exist_ok=True)
        record.save(self._output)
        self._saved = time.monotonic()

    def _follow(self, session: Session) -> tuple[int | None, bool]:
        record, connection = self._record, session.connection
        known = self._names(session, record)
        tag = connection.follow("attach", run=record.run, out=record.out, errors=record.errors)
        is_stopped = is_held = False
        while True:
            event = connection.next_of(tag, _POLL)
            control = self._control
            if control.left:
                raise Canceled
            if control.stopped and not is_stopped:
                is_stopped = True
                connection.send("stop", run=record.run)
            if control.held != is_held and not is_stopped:
                is_held = control.held
                connection.send("hold", run=record.run, on=is_held)
            if not control.stopped:
                self._record = record = self._tend(session, record, known)
            if event is None:
                continue
            if event["event"] == "refused":
                raise InputError(f"{self._name}: {event.get('message')}")
            if event["event"] == "line":
                log, place = str(event["log"]), int(event["place"])
                if self._take(log, str(event["text"]), known):
                    key = "out" if log == runs.OUT else "errors"
                    self._record = record = replace(record, **{key: place})
                if time.monotonic() - self._saved > _SAVE_EVERY:
                    self._save()
            elif event["event"] == "ended":
                code = event["code"]
                return (None if code is None else int(code)), bool(event["resumable"])

    def _through_losses(self, work: Callable[[Session], Any]) -> Any:
        """Do ``work`` in a session; again in the next one if the connection is lost."""
        lost: float | None = None
        wait = 1.0
        while True:
            session = None
            try:
                session = self._handler.session(_quiet, self._control)
                if lost is not None:
                    self._log("info", f"connected to {self._name} again")
                    lost = None
                return work(session)
            except Canceled:
                if lost is not None and not self._control.left:
                    self._log("warning", f"the training on {self._name} could not be stopped: "
                              "the connection is lost")  # fmt: skip
                raise
            except InputError as error:
                is_lost = isinstance(error, ConnectionLost) or session is None
                if not is_lost:
                    raise
                self._handler.close()
                self._save()
                now = time.monotonic()
                if lost is None:
                    lost, wait = now, 1.0
                    self._log("warning", f"{error}; the training goes on there, trying again")
                if now - lost > PATIENCE:
                    raise ConnectionLost(
                        f"{error}; the training goes on there: resume follows it again"
                    ) from None
            for _ in _until(time.monotonic() + wait):
                if self._control.stopped or self._control.left:
                    break
            wait = min(20.0, wait * 2)

    def _stopped(self, session: Session) -> None:
        """Stop the training after Ctrl-C, and fetch its model."""
        session = self._handler.session(_quiet, self._control)
        session.do("stop", "stopping", run=self._record.run)
        for _ in _until(time.monotonic() + _STOPPING):
            if session.do("state", "state", run=self._record.run)["state"] != runs.RUNNING:
                break
        self.fetch("model")

    def _save(self) -> None:
        if self._record is not None and self._output.is_dir():
            with contextlib.suppress(InputError):  # then more lines are read again
                self._record.save(self._output)
        self._saved = time.monotonic()

    def _log(self, level: str, text: str) -> None:
        self._send("log", level=level, text=text)


def _until(end: float) -> Iterator[None]:
    while time.monotonic() < end:
        time.sleep(_POLL)
        yield


def _quiet(event: str, **_content: Any) -> None:
    """No progress."""
