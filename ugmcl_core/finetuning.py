"""Fine-tuning as the panel offers it: a base model, a few cases, and a report on held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import metrics, protocols, volume
from .cases import Case, find_cohort
from .errors import Cancelled, InputError
from .inference import Segmenter, SegmentSettings, check_model
from .model import Model, resolve
from .model_card import as_name
from .profiles import COMPACT
from .requests import FinetuneRequest
from .training import TrainingSettings, describe, train

Send = Callable[..., None]
REPORTED = ("dice", "jaccard", "asd_mm", "hd95_mm")
_BEFORE, _AFTER = 0.05, 0.95  # parts of the progress bar that the first and last report take


def finetune(
    request: FinetuneRequest,
    send: Send,
    progress: Callable[[float, str], None],
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """Train, and return the new model's folder with each hold-out case before and after.

    `send` gets the `metrics` and `log` events. Raises InputError, and Cancelled after a cancel;
    the run's folder then holds a checkpoint to resume from.
    """
    base = resolve(request.base)
    check_model(base)
    method = protocols.method_named(request.method)
    cohort = find_cohort(request.images, request.labels, request.labelled, (), request.holdout)
    profile = protocols.fine_tuning(base, COMPACT, request.iterations)
    output = Path(request.output)
    before = report(
        base,
        cohort.holdout,
        request.device,
        cancelled,
        lambda f, text: progress(_BEFORE * f, text),
    )
    if method.uses_unlabelled and not cohort.unlabelled:
        send(
            "log",
            level="warning",
            text="There are no unlabelled volumes: only the labelled ones are learned from.",
        )

    def heard(event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "preparing":
            if cancelled():
                raise Cancelled
            progress(_BEFORE, event["text"])
        elif kind == "progress":
            fraction = _BEFORE + (_AFTER - _BEFORE) * event["step"] / event["total"]
            progress(fraction, f"iteration {event['step']} of {event['total']}")
            send(
                "metrics",
                step=event["step"],
                losses=event["losses"],
                dice=None,
                speed=event["speed"],
            )
        elif event.get("dice"):
            send(
                "metrics",
                step=event["step"],
                losses={},
                dice=float(np.mean(event["dice"])),
                speed=None,
            )

    every = max(25, request.iterations // 8) if cohort.holdout else 0
    settings = TrainingSettings(request.seed, request.device, evaluate_every=every)
    model = train(
        cohort,
        method,
        profile,
        output,
        settings,
        base=base,
        resume=request.resume,
        description=describe(base, as_name(output.resolve().name), profile),
        on_event=heard,
        should_stop=cancelled,
    )
    if cancelled():
        raise Cancelled
    after = report(
        model,
        cohort.holdout,
        request.device,
        cancelled,
        lambda f, text: progress(_AFTER + (1 - _AFTER) * f, text),
    )
    cases = [
        {"name": c.name, "before": b, "after": a}
        for c, b, a in zip(cohort.holdout, before, after, strict=True)
    ]
    return {"model": str(model.folder), "cases": cases}


def report(
    model: Model,
    cases: Sequence[Case],
    device: str,
    cancelled: Callable[[], bool],
    progress: Callable[[float, str], None],
) -> list[dict[str, float]]:
    """Each labelled case segmented by `model` and measured, the mean over its classes.

    Raises InputError for files that cannot be compared.
    """
    if not cases:
        return []
    segmenter = Segmenter(model, device)
    rows = []
    for number, case in enumerate(cases):
        progress(number / len(cases), f"evaluating {case.name}")
        image, labels = volume.read(case.image), volume.read_labels(case.label)
        if not labels.grid.same_as(image.grid):
            raise InputError(
                f"{case.label}: the label lies on another grid than {case.image.name}; "
                "resample it onto the image"
            )
        found = segmenter.segment(image, SegmentSettings(passes=0), cancelled=cancelled)
        scores = [
            metrics.score(
                found.labels.array == c.value, labels.array == c.value, labels.grid.spacing
            )
            for c in model.card.classes
        ]
        rows.append({key: mean([getattr(s, key) for s in scores]) for key in REPORTED})
    return rows


def mean(values: Sequence[float]) -> float:
    """Mean without NaN, NaN if nothing is left."""
    known = [v for v in values if v == v]
    return float(np.mean(known)) if known else float("nan")
