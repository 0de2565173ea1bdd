"""The rows of the benchmark table, with what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from measurements import (
    COMPACT_PATCH,
    LA_SHAPE,
    LARGE_SHAPE,
    PAPER_PATCH,
    Side,
    click,
    cold_segment,
    distance_ours,
    distance_reference,
    doubt_ours,
    forward_ours,
    forward_reference,
    import_ours,
    loader_ours,
    loader_reference,
    panel_setup,
    segment_monai,
    segment_ours,
    segment_reference,
    segment_stack,
    step_ours,
    step_reference,
)

METHOD_NAMES = (
    "supervised",
    "dual-task",
    "mean-teacher",
    "ua-mt",
    "entropy-minimization",
    "tcse",
    "sassnet",
    "duwm",
    "urpc",
    "dtc",
    "dtml",
    "ugmcl",
    "ugmcl-official",
    "ugmcl-plus",
)
REFERENCE, OURS, SHARED, PEER = "plain reference", "ugmcl", "ugmcl, shared encoder", "MONAI"


@dataclass(frozen=True)
class Row:
    """``goals`` of sides: at least so many times as fast as the first side (1 / 5: at most 5 times
    its time), or at most so many seconds when there is only one side. Sides that would not fit
    into memory ``together`` are measured one after the other."""

    title: str
    sides: dict[str, Side]
    goals: dict[str, float]
    repeats: int = 5
    note: str = ""
    together: bool = True


def _pair(reference: Side, ours: Side, **more: Side) -> dict[str, Side]:
    return {REFERENCE: reference, OURS: ours, **more}


ROWS: dict[str, Row] = {
    "forward": Row(
        "V-Net forward, 112x112x80", _pair(forward_reference, forward_ours), {}, repeats=16
    ),
    "supervised": Row(
        "supervised step, 112x112x80, batch 4",
        _pair(
            partial(step_reference, "supervised", PAPER_PATCH),
            partial(step_ours, "supervised", "paper"),
        ),
        {},
        repeats=3,
    ),
    "ugmcl-paper": Row(
        "UG-MCL step, 112x112x80, batch 4, T = 8",
        _pair(
            partial(step_reference, "ugmcl", PAPER_PATCH),
            partial(step_ours, "ugmcl", "paper"),
            **{SHARED: partial(step_ours, "ugmcl", "paper", shared_encoder=True)},
        ),
        {OURS: 6.0, SHARED: 8.5},
        repeats=2,
    ),
    "ugmcl-compact": Row(
        "UG-MCL step, 96x80x48, batch 4, T = 8",
        _pair(
            partial(step_reference, "ugmcl", COMPACT_PATCH),
            partial(step_ours, "ugmcl", "compact"),
            **{SHARED: partial(step_ours, "ugmcl", "compact", shared_encoder=True)},
        ),
        {OURS: 5.0},
        repeats=3,
        note="this project's side with its strong augmentation",
    ),
    "steps-compact": Row(
        "step of each method, compact profile, batch 4",
        {name: partial(step_ours, name, "compact") for name in METHOD_NAMES},
        {},
        repeats=3,
        note="semi-supervised iterations, one method after the other; the ratio is to supervised",
        together=False,
    ),
    "distance": Row(
        "SDF of a 190x142x88 volume",
        _pair(distance_reference, distance_ours),
        {OURS: 4.0},
        repeats=16,
    ),
    "loader": Row(
        "batch of 4 patches 112x112x80, 2 with SDF",
        _pair(loader_reference, partial(loader_ours, "paper")),
        {},
        repeats=8,
    ),
    "loader-compact": Row(
        "batch of 4 patches 96x80x48, strong augmentation",
        {OURS: partial(loader_ours, "compact")},
        {},
        repeats=8,
    ),
    "segment": Row(
        "segment 190x142x88, paper network",
        {
            REFERENCE: partial(segment_reference, LA_SHAPE, 0),
            OURS: partial(segment_ours, LA_SHAPE, 0),
            PEER: partial(segment_monai, LA_SHAPE),
        },
        {OURS: 80.0},
        repeats=12,
        note="the reference's time is 54 times that of a window",
    ),
    "segment-uncertain": Row(
        "the same with T = 8",
        {
            REFERENCE: partial(segment_reference, LA_SHAPE, 8),
            OURS: partial(segment_ours, LA_SHAPE, 8),
        },
        {},
        repeats=5,
        note="the reference's time is 54 times that of a window",
    ),
    "uncertainty": Row(
        "what T = 8 adds, paper network",
        {
            "T = 0": partial(segment_ours, LA_SHAPE, 0),
            "T = 8": partial(segment_ours, LA_SHAPE, 8),
        },
        {"T = 8": 1 / 5.3},
        repeats=12,
    ),
    "segment-bundled": Row(
        "segment 190x142x88, bundled model, T = 0 and 8",
        {
            "T = 0": partial(segment_ours, LA_SHAPE, 0, True),
            "T = 8": partial(segment_ours, LA_SHAPE, 8, True),
        },
        {"T = 8": 1 / 3.5},
        repeats=12,
    ),
    "surface": Row(
        "surface error, volume interval and predicted Dice of 190x142x88, bundled model",
        {OURS: doubt_ours},
        {OURS: 0.25},
        repeats=12,
    ),
    "segment-large": Row(
        "segment 640x640x88, bundled model, T = 8, all windows",
        {OURS: partial(segment_ours, LARGE_SHAPE, 8, True)},
        {},
        repeats=1,
    ),
    "segment-stack": Row(
        "segment a short-axis stack of 216x256x8, planned network, 3 classes, T = 8",
        {OURS: segment_stack},
        {OURS: 2.0},
        repeats=8,
    ),
    "import": Row("import ugmcl_core", {OURS: import_ours}, {OURS: 0.05}, repeats=8),
    "cold": Row(
        "cold `ugmcl segment` 190x142x88, T = 8", {OURS: cold_segment}, {OURS: 6.0}, repeats=3
    ),
    "setup": Row("the panel: import and setup()", {OURS: panel_setup}, {OURS: 0.5}, repeats=3),
    "click-cold": Row(
        "first click to the overlay in a slice view, T = 8",
        {OURS: partial(click, cold=True)},
        {},
        repeats=3,
        note="the worker starts and loads the model",
    ),
    "click": Row(
        "warm click to the overlay in a slice view, T = 8",
        {OURS: click},
        {OURS: 1.5},
        repeats=4,
    ),
    "click-paper": Row(
        "the same with a model of the paper profile",
        {OURS: partial(click, paper=True)},
        {OURS: 4.0},
        repeats=3,
    ),
}
