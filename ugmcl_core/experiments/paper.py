"""What each table and figure of the paper compares, and what the paper reports for it.

Zhang, Jiao, Liao, Li, Zhang, "Uncertainty-guided mutual consistency learning for semi-supervised
medical image segmentation" (Artificial Intelligence in Medicine, 2022). Published values are Dice
and Jaccard in %, ASD and 95HD in voxels, of the paper's own test cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

LAYOUTS = {"la": ("la", "la-h5"), "brats": ("brats", "brats-4")}
"""The layouts of files that hold the data of an `Experiment`'s published values."""

Options = tuple[tuple[str, object], ...]
Published = tuple[float, float, float, float]


@dataclass(frozen=True)
class Row:
    """One row of a table or point of a curve: a training at each seed.

    ``options`` are the method's settings that differ from its defaults. ``share`` is the number of
    labeled cases as a multiple of the data set's standard one (the paper's 16 of 80 of LA, 25 of
    250 of BraTS); None labels all. A ``count`` is their number instead. With ``equal_time`` the
    iterations are those that fit in the wall time of the group's reference. Rows are compared with
    the ``reference`` of their ``group``; ``published`` is the paper's, ``own`` marks what the
    paper does not have; ``series`` and ``x`` place a point of a curve. Rows of lower ``priority``
    are trained first.
    """

    label: str
    method: str
    options: Options = ()
    share: float | None = 1.0
    count: int | None = None
    equal_time: bool = False
    group: str = ""
    reference: bool = False
    published: Published | None = None
    own: bool = False
    note: str = ""
    series: str = ""
    x: float = 0.0
    priority: int = 1


    def share_of(self, standard: int) -> float | None:
        """``share`` where ``standard`` cases are the data set's standard."""
        return self.share if self.count is None else self.count / standard


@dataclass(frozen=True)
class Experiment:
    """A table or figure: its rows as they are shown. ``data`` is what the published values belong
    to (``la`` or ``brats``); ``form`` is how it is shown; ``compared_with`` says in words what the
    reference rows are."""

    name: str
    title: str
    rows: tuple[Row, ...]
    data: str = "la"
    form: str = "table"
    compared_with: str = "UG-MCL"


_UGMCL_LA = (90.16, 82.18, 1.98, 6.50)
_SUPERVISED_LA = (86.03, 76.06, 3.51, 14.26)
_DTC_LA = (89.42, 80.89, 2.10, 7.32)

TABLE_1 = Experiment(
    "table1",
    "Table 1: the effect of each term of UG-MCL (LA, 16 labeled)",
    (
        Row(
            "L_seg",
            "ugmcl",
            (("cross", False), ("distance", False), ("intra", False)),
            published=_SUPERVISED_LA,
            note="UG-MCL without its other terms, so that L_seg has the scale that it has in the "
            "rows below",
        ),
        Row("L_seg + L_dis", "dual-task", published=(87.88, 78.77, 2.81, 10.25)),
        Row(
            "L_seg + L_itc",
            "ugmcl",
            (("distance", False), ("cross", False)),
            published=(88.68, 79.90, 2.71, 9.07),
        ),
        Row(
            "L_seg + L_dis + L_itc",
            "ugmcl",
            (("cross", False),),
            published=(89.15, 80.58, 2.03, 8.15),
        ),
        Row(
            "L_seg + L_dis + L_ctc",
            "ugmcl",
            (("intra", False),),
            published=_DTC_LA,
            note="the published row equals Table 3's DTC digit for digit, and so probably is DTC; "
            "here it is UG-MCL without L_itc",
        ),
        Row("UG-MCL (all terms)", "ugmcl", reference=True, published=_UGMCL_LA),
    ),
)

TABLE_2 = Experiment(
    "table2",
    "Table 2: β, segmentation against distance in L_itc (LA, 16 labeled)",
    tuple(
        Row(
            f"β = {beta:g}",
            "ugmcl",
            (("beta", beta),),
            reference=beta == 0.75,
            published=published,
        )
        for beta, published in (
            (0.0, (89.60, 81.30, 2.51, 8.66)),
            (0.25, (89.86, 81.75, 2.22, 7.18)),
            (0.5, (90.07, 82.03, 2.17, 7.57)),
            (0.75, _UGMCL_LA),
            (1.0, (89.99, 81.93, 2.74, 7.95)),
        )
    ),
)

_SUPERVISED = Row("Supervised", "supervised", published=_SUPERVISED_LA, priority=0)
_MEAN_TEACHER = Row("MT", "mean-teacher", published=(88.23, 79.29, 2.73, 10.64), priority=0)
_UA_MT = Row("UA-MT", "ua-mt", published=(88.88, 80.21, 2.26, 7.32), priority=0)
_DTC = Row("DTC", "dtc", published=_DTC_LA, priority=0)
_UGMCL = Row("UG-MCL", "ugmcl", reference=True, published=_UGMCL_LA, priority=0)
_PLUS = Row("UG-MCL-plus", "ugmcl-plus", own=True, note="this project's own variant", priority=0)
_VOLUMES = Row(
    "UG-MCL by volumes",
    "ugmcl-volumes",
    (("epochs", 0),),
    own=True,
    note="this project's own successor; volumes join after half of the iterations, also where the "
    "default would learn from the labels alone",
    priority=0,
)
_PICTURED = (_SUPERVISED, _MEAN_TEACHER, _UA_MT, _DTC, _UGMCL, _PLUS)

TABLE_3 = Experiment(
    "table3",
    "Table 3: comparison of methods (LA, 16 labeled)",
    (
        _SUPERVISED,
        Row("TCSE", "tcse", published=(88.15, 79.20, 2.44, 9.57)),
        _MEAN_TEACHER,
        _UA_MT,
        Row("EntMin", "entropy-minimization", published=(88.45, 79.51, 3.72, 14.14)),
        Row("SASS", "sassnet", published=(89.54, 81.24, 2.20, 8.24)),
        Row("DUWM", "duwm", published=(89.65, 81.35, 2.03, 7.04)),
        Row("URPC", "urpc", published=(88.74, 79.93, 3.66, 12.73)),
        _DTC,
        _UGMCL,
        Row(
            "Upper bound",
            "supervised",
            share=None,
            published=(91.14, 83.82, 1.52, 5.75),
            note="supervised, every training case labeled (the paper's: 80)",
        ),
        Row(
            "Supervised (equal time)",
            "supervised",
            equal_time=True,
            own=True,
            note="supervised for the wall time of UG-MCL",
        ),
        Row(
            "Supervised (equal labels)",
            "mean-teacher",
            (("weight", 0.0),),
            own=True,
            note="MT without its consistency: supervised with as many labeled patches a step as "
            "the semi-supervised rows",
        ),
        Row("Dual-task supervised", "dual-task", own=True, note="Table 1's second row"),
        Row(
            "DTML", "dtml", own=True, note="the paper's predecessor, not in its table", priority=2
        ),
        Row(
            "UG-MCL (published code)",
            "ugmcl-official",
            own=True,
            note="the losses of the authors' code where they depart from the paper",
            priority=2,
        ),
        _PLUS,
        _VOLUMES,
    ),
)


def _table_4() -> tuple[Row, ...]:
    published = {  # only the Dice is available
        "supervised": ("Supervised", 73.00, 76.14),
        "ugmcl": ("UG-MCL", 82.82, 83.61),
        "mean-teacher": ("MT", 81.21, 82.38),
        "ua-mt": ("UA-MT", 80.85, 81.57),
        "entropy-minimization": ("EntMin", 81.74, 82.37),
        "urpc": ("URPC", 81.80, 82.80),
        "dtc": ("DTC", 81.96, 82.78),
    }
    nan = float("nan")
    return tuple(
        Row(
            f"{label} ({count} labeled)",
            method,
            share=share,
            group=f"{count} labeled",
            reference=method == "ugmcl",
            published=(values[place], nan, nan, nan),
        )
        for place, (count, share) in enumerate(((25, 1.0), (50, 2.0)))
        for method, (label, *values) in published.items()
    )


TABLE_4 = Experiment(
    "table4",
    "Table 4: BraTS 2019, whole tumor in T2-FLAIR (250/25/60 cases)",
    _table_4(),
    data="brats",
)

FIGURE_3 = Experiment(
    "figure3",
    "Figure 3: the uncertainty threshold, fixed and ramped (LA, 16 labeled)",
    tuple(
        Row(
            f"{series} {start:g}",
            "ugmcl",
            # fixed at 1 and ramped from 1 are the same training
            (("threshold_start", start), *(options if start < 1.0 else ())),
            reference=series == "ramped" and start == 0.75,
            series=series,
            x=start,
        )
        for series, options in (("ramped", ()), ("fixed", (("threshold_ramp", False),)))
        for start in (0.25, 0.5, 0.625, 0.75, 0.875, 1.0)
    ),
    form="thresholds",
)

# Dice of UG-MCL less that of supervised, as the paper reports it for each share of labels
PUBLISHED_GAIN = {5: 21.07, 10: 6.95, 15: 5.78, 20: 4.13, 30: 2.05, 50: 1.36}

FIGURE_4 = Experiment(
    "figure4",
    "Figure 4: Dice against the number of labels (LA)",
    tuple(
        Row(
            f"{label} ({percent} %)",
            method,
            share=percent / 20,
            group=f"{percent} %",
            reference=method == "ugmcl",
            series=label,
            x=percent,
            priority=0 if percent in (10, 20) else 1,
        )
        for percent in (5, 10, 15, 20, 30, 50)
        for label, method in (
            ("Supervised", "supervised"),
            ("UG-MCL", "ugmcl"),
            ("UA-MT", "ua-mt"),
            ("DTC", "dtc"),
        )
    ),
    form="labels",
)

FIGURE_5 = Experiment(
    "figure5", "Figure 5: slices of the methods' results (LA)", _PICTURED, form="slices"
)
FIGURE_6 = Experiment(
    "figure6", "Figure 6: surfaces of the methods' results (LA)", _PICTURED, form="surfaces"
)

ALL_LABELS = "All labels"

FEW_LABELS = Experiment(
    "few-labels",
    "What unlabeled volumes bring with few labels (LA; not in the paper)",
    (
        *(
            Row(
                f"{series} ({count})",
                method,
                count=count,
                group=f"{count} labeled",
                reference=method == "dual-task",
                own=True,
                series=series,
                x=count,
                priority=priority + abs(place - 1),
            )
            for place, count in enumerate((2, 4, 8, 16))
            for series, method, priority in (
                ("Labels alone", "dual-task", 0),
                ("UG-MCL by volumes", "ugmcl-volumes", 0),
                ("UG-MCL", "ugmcl", 3),
            )
        ),
        Row(
            ALL_LABELS,
            "dual-task",
            share=None,
            own=True,
            series=ALL_LABELS,
            note="the bound: labels alone, every training case labeled",
        ),
    ),
    form="few-labels",
    compared_with="labels alone",
)

EXPERIMENTS = {
    e.name: e
    for e in (
        TABLE_1, TABLE_2, TABLE_3, TABLE_4, FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6, FEW_LABELS,
    )
}  # fmt: skip


def experiment_named(name: str) -> Experiment:
    """The experiment ``name``; raises InputError if there is none."""
    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}; known are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def check_layout(experiment: Experiment, layout: str) -> None:
    """Raise InputError for data of another kind than the experiment's; a plain folder may hold
    any."""
    if layout not in (*LAYOUTS[experiment.data], "folder"):
        known = " or ".join(LAYOUTS[experiment.data])
        raise InputError(
            f"{experiment.name} is about data of layout {known}, and this is {layout}; choose "
            "another experiment, or --layout folder"
        )


def only(experiment: Experiment, wanted: tuple[str, ...]) -> tuple[Row, ...]:
    """The rows whose method or label is among ``wanted`` (all without); InputError for a word
    that none has."""
    for word in wanted:
        if not any(word in (row.method, row.label) for row in experiment.rows):
            known = ", ".join(dict.fromkeys(row.method for row in experiment.rows))
            raise InputError(f"{experiment.name} has no row {word!r}; known are {known}")
    return tuple(
        row for row in experiment.rows if not wanted or {row.method, row.label} & set(wanted)
    )
