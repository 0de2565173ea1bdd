"""The requests of the worker protocol, done on another computer: `ugmcl worker --on`.

To the panel it is a worker like the one of this computer: files lie here, and events name them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..files import scratch
from ..inference import result_files
from ..models.model import resolve
from ..training.settings import FinetuneSettings, KeepLearningSettings
from ..worker import server
from ..worker.progress import Control, ProgressEvents, Send
from ..worker.protocol import (
    EstimateRequest,
    RankRequest,
    Request,
    SegmentRequest,
)
from . import cases, learning, trainings
from .connection import Computer
from .session import Session

_STEM = "image"  # of the results there: the name of an image may be that of a patient
_SENT, _DONE = 0.15, 0.9  # parts of the progress of a segmentation


class RemoteHandler:
    """Does one request after the other in one session, which it opens again if it was lost."""

    is_elsewhere = True

    def __init__(self, computer: Computer) -> None:
        self.computer = computer
        self._session: Session | None = None

    def do(self, request: Request, send: Send, control: Control) -> dict[str, Any]:
        """The content of the `result` event; raises InputError and Canceled."""
        if isinstance(request, SegmentRequest):
            return self._segment(request, send, control)
        if isinstance(request, EstimateRequest):
            return self._estimate(request, send, control)
        if isinstance(request, FinetuneSettings):
            return trainings.finetune(self, request, send, control)
        if isinstance(request, RankRequest):
            return self._rank(request, send, control)
        if isinstance(request, KeepLearningSettings):
            return learning.keep_learning(self, request, send, control)
        raise InputError(
            "comparing label maps works on this computer only: choose another device than "
            f"{self.computer.destination}"
        )

    def session(self, send: Send, control: Control) -> Session:
        """The session; raises InputError in one line where there is none, and Canceled."""
        if self._session is not None and not self._session.alive:
            self.close()
        if self._session is None:
            send("progress", fraction=0.0, text=f"connecting to {self.computer.destination}",
                 remaining=None)  # fmt: skip
            self._session = Session(self.computer, lambda: control.stopped)
        return self._session

    def close(self) -> None:
        """End the session, which removes what was sent."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _segment(self, request: SegmentRequest, send: Send, control: Control) -> dict[str, Any]:
        model = resolve(request.model)
        folder, stem = result_files.make_folder(request.output), request.output_stem
        result_files.check(folder, stem, model, request.passes > 0)
        session = self.session(send, control)
        advance = Steps(send)
        there = session.model(model, control, advance.part(0.0, 0.05))
        sent = [
            session.put(Path(path), control, advance.part(0.05, _SENT)) for path in request.image
        ]
        images = [session.path(f"{files}/{name}") for files, name in sent]
        results = session.folder("results")
        content = {
            **asdict(request),
            "command": "segment",
            "image": _one_or_several(images),
            "output": session.path(results),
            "model": there,
            "stem": _STEM,
        }
        names = Names({**dict(zip(images, request.image, strict=True)), there: request.model})
        follow = names.forwarding(send, (_SENT, _DONE))
        try:
            with names.in_errors():
                result = session.ask(content, follow, control, folders=[results])
            with scratch(folder) as partial:
                fetched = session.get(
                    partial, control, advance.part(_DONE, 1.0), folder=results
                )
                moved = {}
                for file in fetched:
                    if "/" in file or not file.startswith(f"{_STEM}_"):
                        raise InputError(
                            f"{session.name} sent {file!r}, which is not a result; update ugmcl "
                            "there"
                        )
                    new = f"{stem}{file.removeprefix(_STEM)}"
                    (partial / file).rename(partial / new)
                    moved[session.path(f"{results}/{file}")] = str(folder / new)
                result_files.place(partial, folder, stem, [Path(p).name for p in moved.values()])
        finally:
            session.drop(*(files for files, _ in sent), results)
        return names.here({**result, "computer": self.computer.destination}, moved)

    def _rank(self, request: RankRequest, send: Send, control: Control) -> dict[str, Any]:
        session = self.session(send, control)
        advance = Steps(send)
        model = session.model(resolve(request.model), control)
        names, images, folders = Names({model: request.model}), [], []
        try:
            for number, paths in enumerate(request.images):
                span = (number / len(request.images) * 0.5, (number + 1) / len(request.images) / 2)
                there = []
                try:
                    for path in paths:
                        folder, name = session.put(Path(path), control, advance.part(*span))
                        folders.append(folder)
                        there.append(session.path(f"{folder}/{name}"))
                        names.add(there[-1], path)
                except InputError as error:
                    if not session.alive:
                        raise
                    send("log", level="warning", text=str(error))
                    continue
                images.append(_one_or_several(there))
            if not images:
                raise InputError("rank: none of the images can be used; see the warnings")
            content = {**asdict(request), "command": "rank", "images": images, "model": model}
            with names.in_errors():
                result = session.ask(content, names.forwarding(send, (0.5, 1.0)), control)
        finally:
            session.drop(*folders)
        return names.here(result)

    def _estimate(self, request: EstimateRequest, send: Send, control: Control) -> dict[str, Any]:
        session = self.session(send, control)
        listed = cases.read(Path(request.case_list))
        sent = cases.send(session, listed, control, Steps(send).part(0.0, 0.5))
        paths = sent.in_session(session)
        base = session.model(resolve(request.base), control) if request.base else ""
        place = session.folder("estimates")
        folder = cases.write_list(session, listed.with_paths(paths), control)
        case_list = session.path(f"{folder}/cases.json")
        names = Names({there: str(here) for here, there in paths.items()})
        names.add(case_list, request.case_list)
        if base:
            names.add(base, request.base)
        content = {
            **request.request("estimate"),
            "case_list": case_list,
            "base": base,
            "output": session.path(place),
        }
        try:
            with names.in_errors():
                follow = names.forwarding(send, (0.5, 1.0))
                return names.here(session.ask(content, follow, control, [place]))
        finally:
            session.drop(place, folder)  # the images stay for the training that follows


def _one_or_several(paths: list[str]) -> str | list[str]:
    """The images of a case, in the form of a request."""
    return paths[0] if len(paths) == 1 else paths


class Steps:
    """The progress of work that consists of parts."""

    def __init__(self, send: Send) -> None:
        self._send = ProgressEvents(send)

    def part(self, first: float, last: float) -> Callable[[float, str], None]:
        """The function that a part of the work calls with the fraction of it that is done."""

        def advance(fraction: float, text: str) -> None:
            whole = first + min(max(fraction, 0.0), 1.0) * (last - first)
            self._send(whole, text)

        return advance


class Names:
    """The files there by what they are called here, in all that comes back."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    def add(self, there: str, here: str) -> None:
        self._names[there] = here

    def update(self, other: Names) -> None:
        """Also those of another one."""
        self._names.update(other._names)

    def here(self, value: Any, further: Mapping[str, str] | None = None) -> Any:
        """``value`` with the names of this computer's files in all its texts."""
        names = {**self._names, **(further or {})}
        if not names:
            return value
        longest = sorted(names, key=len, reverse=True)
        known = re.compile("|".join(re.escape(n) for n in longest))

        def change(item: Any) -> Any:
            if isinstance(item, str):
                return known.sub(lambda match: names[match.group()], item)
            if isinstance(item, dict):
                return {k: change(v) for k, v in item.items()}
            return [change(v) for v in item] if isinstance(item, list) else item

        return change(value)

    def forwarding(
        self, send: Send, span: tuple[float, float] = (0.0, 1.0)
    ) -> Callable[[str, dict[str, Any]], None]:
        """What passes the events from there on; their progress is the ``span`` of the whole."""
        first, last = span

        def forward(name: str, event: dict[str, Any]) -> None:
            event = self.here(event)
            if name == "progress":
                event["fraction"] = first + float(event["fraction"]) * (last - first)
            send(name, **event)

        return forward

    def in_errors(self) -> _Renaming:
        """Put the names of this computer's files into the InputErrors of a block."""
        return _Renaming(self)


class _Renaming:
    def __init__(self, names: Names) -> None:
        self._names = names

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, InputError):
            error.args = (self._names.here(str(error)),)


def serve(computer: Computer, job: str = "", cancel_file: str | None = None) -> int:
    """`ugmcl worker --on`: the worker protocol for another computer."""
    handler = RemoteHandler(computer)

    def start(events: server.EventWriter) -> RemoteHandler:
        events.send(
            "hello",
            pid=os.getpid(),
            protocol=server.PROTOCOL,
            version=__version__,
            computer=computer.destination,
        )
        return handler

    try:
        return server.run_job(job, cancel_file, start=start) if job else server.serve(start)
    finally:
        handler.close()
