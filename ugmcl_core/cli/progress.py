"""Progress on stderr: a bar on a terminal if tqdm is installed, otherwise plain lines."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

_EVERY = 10.0
"""Seconds between plain lines."""


def print_line(text: str, stream: TextIO) -> None:
    """Print a line at once; if nobody reads any more, discard it and all further output."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:  # the reader left, for example `| head`, and the work goes on
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def percent(values: Iterable[float | None]) -> str:
    """The mean of those that exist in percent, - if none does."""
    from ..evaluation.metrics import known_mean  # NumPy: after what needs none of it

    mean = known_mean(v for v in values if v is not None)  # null, from another computer
    return "-" if math.isnan(mean) else f"{100 * mean:.1f} %"


class Progress:
    """Shows one task; call it with the fraction done (0 to 1) and a short text."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar = _bar(title)
        self._last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, fraction: float, text: str = "") -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(100 * min(max(fraction, 0.0), 1.0) - self._bar.n)
        elif time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            self.write(f"{fraction:.0%} {text}".rstrip())

    def write(self, text: str) -> None:
        """A line of its own, above the bar."""
        line = f"{self._title}: {text}"
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print_line(line, sys.stderr)

    def stopped(self, output: str) -> None:
        """After Ctrl-C in a training: where its model is, if there is one yet."""
        if (Path(output) / "model" / "model.json").exists():
            self.write(f"stopped; a usable model is in {output}/model, and --resume continues")

    def show(self, event: dict[str, Any]) -> None:
        """One event of a training or a scoring."""
        kind = event["event"]
        if kind == "preparing":  # of the task, which has not begun, or is partly done
            self(event.get("done", 0.0), event["text"])
        elif kind == "scoring":
            self(event["fraction"], event["text"])
        elif kind == "notice":
            self.write(event["text"])
        elif kind == "progress":
            losses = " ".join(f"{k} {v:.3f}" for k, v in event["losses"].items())
            self(
                event["step"] / event["total"],
                f"{event['step']}/{event['total']} {event['speed']:.2f} it/s, "
                f"{event['remaining']:.0f} s left, {losses}",
            )
        elif kind == "labeled":
            from ..training.pseudo_labels import report

            self.write(report(event))
        elif kind == "holdout" and event["dice"]:
            self.write(f"hold-out Dice {percent(event['dice'])} at {event['step']}")


def sending(progress: Progress) -> Callable[..., None]:
    """What shows the events of the worker protocol."""

    def send(event: str, **content: Any) -> None:
        if event == "log":
            progress.write(content["text"])
        elif event == "progress":
            remaining = content.get("remaining")
            left = "" if remaining is None else f", {remaining:.0f} s left"
            progress(content["fraction"], content["text"] + left)
        elif event == "metrics" and content["dice"] is not None:
            part = f"{content['part']}: " if content["part"] else ""
            classes = content["classes"] or {}
            each = ", ".join(f"{name} {percent([dice])}" for name, dice in classes.items())
            each = f" ({each})" if each else ""
            dice = percent([content["dice"]])
            progress.write(f"{part}hold-out Dice {dice}{each} at {content['step']}")

    return send


def _bar(title: str):
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
    return tqdm(total=100, desc=title, file=sys.stderr, leave=False, bar_format=shape)
