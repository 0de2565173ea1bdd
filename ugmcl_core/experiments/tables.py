"""An experiment's results as Markdown, next to the published values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import statistics
from .paper import ALL_LABELS, LAYOUTS, PUBLISHED_GAIN, Experiment
from .planning import method_of
from .results import Result, Results
from .running import Workplace

_MEASURES = {"dice": "Dice %", "jaccard": "Jaccard %", "asd": "ASD vox", "hd95": "95HD vox"}
_MM = {"asd_mm": "ASD mm", "hd95_mm": "95HD mm"}
_PERCENT = ("dice", "jaccard")
LOW_DICE = 0.7
"""A scan below it counts as failed."""


def render(experiment: Experiment, results: Results, place: Workplace, protocol: str) -> str:
    """The Markdown text: what was done, the results, the comparisons, the trainings' times, and
    what is missing. ``protocol`` is one line on profile, iterations and seeds."""
    published = place.dataset.layout in LAYOUTS[experiment.data] and experiment.form == "table"
    parts = [f"# {experiment.title}", _about(results, place, protocol)]
    if results.present:
        parts += [
            "## Results",
            _results(results, published),
            _reading(results, published),
            f"## Compared with {experiment.compared_with}, by Dice",
            _comparisons(results, experiment.compared_with),
            f"## Compared with {experiment.compared_with}, by every measure",
            _every_measure(results, experiment.compared_with),
            *_against_supervised(results),
            "## With the largest component kept, and in mm",
            _further(results),
        ]
        if experiment.form == "few-labels":
            parts[2:2] = ["## What unlabeled volumes bring", _few_labels(results)]
        if experiment.form == "labels":
            parts += ["## Gain over supervised", _gain(results)]
        parts += ["## Trainings", _trainings(results)]
    if notes := [f"- {r.row.label}: {r.row.note}" for r in results.rows if r.row.note]:
        parts += ["## Rows", "\n".join(notes)]
    if missing := [f"- {r.row.label}: seed {', '.join(map(str, r.missing))}"
                   for r in results.rows if r.missing]:  # fmt: skip
        parts += ["## Not there yet", "\n".join(missing)]
    return "\n\n".join(parts) + "\n"


def _about(results: Results, place: Workplace, protocol: str) -> str:
    dataset = place.dataset
    kind = {"dev": "development", "report": "report"}[place.scoring.cases]
    stride = "the paper's 18x18x4" if place.scoring.paper_stride else "the program's own"
    lines = [
        protocol,
        f"Data: layout {dataset.layout}, {len(dataset.training)} training cases, of which "
        f"{dataset.standard} labeled unless a row says otherwise.",
        f"Scored on the {len(results.cases)} {kind} cases, never trained on; last checkpoint, "
        f"chosen on nothing; inference stride: {stride}.",
    ]
    if place.scoring.cases == "dev":
        lines.append("Settings were chosen while looking at these cases: the numbers may flatter.")
    else:
        lines.append("Settings are meant to be fixed before these cases are opened.")
    return "\n".join(f"- {line}" for line in lines)


def _results(results: Results, published: bool) -> str:
    others = list(_MEASURES)[1:]
    head = ["Method", "Labeled", "Seeds", "Dice % ± SD", "95 % interval"]
    head += [_MEASURES[name] for name in others]
    if published:
        head += [f"published {name}" for name in _MEASURES.values()]
    rows = []
    for result in results.present:
        dice = result.values(results.cases)
        low, high = statistics.interval(result.independent(results.cases))
        cells = [
            _name(result),
            "{} of {}".format(*result.labeled),
            str(len(result.scored)),
            f"**{_shown('dice', statistics.mean(dice))}**"
            f" ± {_shown('dice', statistics.deviation(dice))}",
            f"{_shown('dice', low)} to {_shown('dice', high)}",
            *(_measure(result, results, name) for name in others),
        ]
        if published:
            given = result.row.published or (math.nan,) * 4
            cells += ["-" if math.isnan(v) else f"{v:.2f}" for v in given]
        rows.append(cells)
    return _table(head, rows)


def _reading(results: Results, published: bool) -> str:
    seeds = max(len(r.scored) for r in results.present)
    many = "seeds and cases" if seeds > 1 else "cases"
    lines = [
        "Dice is the primary measure, named before anything was run. Means are over seeds and "
        f"cases, SD over cases averaged over their seeds, intervals by Student's t over {many}. "
        "ASD, 95HD: in voxels of the scored images; "
        "they do not exist for an empty result, which is then left out of their mean.",
        "Every method has the same augmentation, optimizer, iterations, inference and "
        "post-processing (none here); rows at equal time differ in iterations alone.",
    ]
    if len({n.draw for r in results.present for n in r.scored}) > 1:
        lines.append(
            "Intervals and tests count the draws of the labeled cases, each averaged over its "
            "seeds: the same labels with another seed are no further draw."
        )
    if any(r.row.own for r in results.present):
        lines.append("† Not in the paper's table.")
    if seeds == 1:
        lines.append(
            "**One seed.** Another one can change the order of the rows: no ranking of methods is "
            "claimed from this table, whatever its p values."
        )
    lines.append(
        "p values over cases alone compare the trained models. They ignore that another seed "
        "gives another model: of pairs of equal methods about a third reach p < 0.05. A method "
        "differs from another where the test over seeds and cases says so."
    )
    if published:
        lines.append(
            "Published values are of the paper's own test cases and full protocol (0.625 mm, "
            "6000 iterations), those of other methods partly from other papers: they are not "
            "measured here, and differences between the columns are not differences of methods."
        )
    if empty := [
        f"{r.row.label} {n}" for r in results.present
        if (n := int(np.isnan(r.values(results.cases, "asd")).sum()))
    ]:  # fmt: skip
        lines.append(f"Without a distance (empty result): {', '.join(empty)}.")
    return "\n\n".join(lines)


def _comparisons(results: Results, reference: str) -> str:
    found = results.comparisons()
    if not found:
        return f"Nothing to compare yet: {reference} or the other rows are missing."
    head = ["Method", f"Dice less {reference}", "95 % interval", "p, seeds and cases",
            "after Holm", "t-test p, cases", "after Holm",
            "Wilcoxon p, cases", "after Holm"]  # fmt: skip
    rows = []
    for label, c in found.items():
        rows.append(
            [
                label,
                f"{100 * c.difference:+.2f}",
                f"{100 * c.low:+.2f} to {100 * c.high:+.2f}",
                *map(_p, (c.seeds_and_cases, c.seeds_and_cases_holm)),
                *map(_p, (c.t_test, c.t_test_holm, c.wilcoxon, c.wilcoxon_holm)),
            ]
        )
    text = (
        "Two-sided and paired over cases; t-test and Wilcoxon with the cases averaged over their "
        "seeds, the first column with the spread over seeds added (none with one seed). A row is "
        "compared in the seeds that it and the other one have. Holm's correction over the "
        f"{len(found)} rows of this table."
    )
    return _table(head, rows) + "\n\n" + text


def _every_measure(results: Results, reference: str) -> str:
    """Differences in all four measures, with the p values of the paired t-test over cases."""
    found = {name: results.comparisons(name) for name in _MEASURES}
    head = ["Method", *(f"{text} ({what})" for text in _MEASURES.values()
                        for what in (f"less {reference}", "p after Holm"))]  # fmt: skip
    rows = []
    for label in found["dice"]:
        cells = [label]
        for name in _MEASURES:
            c = found[name][label]
            cells += [_shown(name, c.difference, "+.2f"), _p(c.t_test_holm)]
        rows.append(cells)
    if not rows:
        return "Nothing to compare yet."
    return _table(head, rows) + "\n\nPaired t-test over cases; Holm's correction by measure."


def _against_supervised(results: Results) -> list[str]:
    """Every semi-supervised row against supervised trainings of equal iterations, of equal labeled
    patches a step and of UG-MCL's time, as far as they are there; the others against the first."""
    references = {
        what: found
        for what, label in (
            ("equal iterations", "Supervised"),
            ("equal labeled patches", "Supervised (equal labels)"),
            ("the time of UG-MCL", "Supervised (equal time)"),
        )
        if (found := results.named(label)) is not None
    }
    first = results.named("Supervised")
    others = [
        r for r in results.present
        if r is not first and r.row.share == 1.0 and r.row.count is None
    ]  # fmt: skip
    if not references or not any(method_of(r.row).uses_unlabeled for r in others):
        return []
    rows = []
    for result in others:
        comparable = method_of(result.row).uses_unlabeled and result not in references.values()
        pairs = (
            results.pairs(result, reference) if comparable or reference is first else None
            for reference in references.values()
        )
        rows.append([_name(result), *("" if p is None else _of_pairs(*p) for p in pairs)])
    head = ["Method", *(f"Dice less supervised's, {what}" for what in references)]
    text = (
        "Differences in points, in pairs of trainings with the same seed, as far as both exist: "
        "the mean, its 95 % interval over pairs and cases, and each pair. Equal labeled patches: "
        "supervised training that sees as many labeled patches a step as the semi-supervised "
        "rows. The time of UG-MCL: supervised training that lasts as long as UG-MCL's, which most "
        "other rows do not need (the times are below)."
    )
    return ["## Compared with supervised", _table(head, rows) + "\n\n" + text]


def _of_pairs(values: np.ndarray, reference: np.ndarray) -> str:
    """The mean difference of paired trainings (S, N), its interval and those of the pairs."""
    difference, low, high, _ = statistics.paired(values, reference)
    each = ", ".join(f"{100 * statistics.mean(d):+.2f}" for d in (values - reference)[:, None])
    pairs = f"; {each}" if len(values) > 1 else ""
    return f"{100 * difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f}{pairs})"


def _further(results: Results) -> str:
    head = ["Method", *(f"{n}, largest" for n in _MEASURES.values()),
            *(f"{n}, largest" for n in _MM.values()), *_MM.values()]  # fmt: skip
    rows = [
        [
            _name(r),
            *(_measure(r, results, n, True) for n in (*_MEASURES, *_MM)),
            *(_measure(r, results, n) for n in _MM),
        ]
        for r in results.present
    ]
    return _table(head, rows)


def _few_labels(results: Results) -> str:
    """Each method against labels alone at each number of labels, in pairs of the same seed and
    labeled cases."""
    head = ["Labeled", "Method", "Dice % of each replicate", "worst scan %", "scans below 70 %",
            "Dice less labels alone", "95 % interval", "p", "gap closed", "minutes"]  # fmt: skip
    bound = results.named(ALL_LABELS)
    rows = []
    for result in results.present:
        dice = result.values(results.cases)
        each = ", ".join(f"{100 * statistics.mean(d):.1f}" for d in dice[:, None])
        worst = 100 * float(np.nanmean(np.nanmin(dice, axis=1)))
        below = f"{int((dice < LOW_DICE).sum())} of {dice.size}"
        minutes = [r["time"]["seconds"] / 60 for r in result.records.values()]
        reference = results.reference_of(result)
        compared = ["", "", "", ""]
        if reference is not None:
            compared = _against(results, result, reference, bound)
        rows.append(
            [str(result.labeled[0]), result.row.series, each, f"{worst:.1f}", below, *compared,
             f"{np.mean(minutes):.0f}"]
        )  # fmt: skip
    text = (
        "In pairs of trainings with the same seed and labeled cases, as far as both are there; p "
        "over pairs and cases, not corrected. The worst scan is the mean over replicates of each "
        "one's worst. Gap closed: the difference as a part of what all labels bring over labels "
        "alone. Minutes: wall time of the iterations, beside whatever else ran."
    )
    return _table(head, rows) + "\n\n" + text


def _against(
    results: Results, result: Result, reference: Result, bound: Result | None
) -> list[str]:
    """Difference, interval, p and the part of the gap that is closed."""
    pairs = results.pairs(result, reference)
    if pairs is None:
        return ["", "", "", ""]
    a, b = pairs
    difference, low, high, p = statistics.paired(a, b)
    closed = ""
    if bound is not None:
        gap = statistics.mean(bound.values(results.cases)) - statistics.mean(b)
        closed = f"{100 * difference / gap:.0f} %" if gap > 0 else "no gap"
    interval = f"{100 * low:+.2f} to {100 * high:+.2f}"
    return [f"{100 * difference:+.2f}", interval, _p(p), closed]


def _gain(results: Results) -> str:
    """Dice of UG-MCL less that of supervised at each share of labels."""
    by_place = {(r.row.series, r.row.x): statistics.mean(r.values(results.cases))
                for r in results.present}  # fmt: skip
    rows = [
        [f"{percent} %", f"{100 * (by_place['UG-MCL', percent] - lower):+.2f}", f"{gain:+.2f}"]
        for percent, gain in PUBLISHED_GAIN.items()
        if ("UG-MCL", percent) in by_place
        and (lower := by_place.get(("Supervised", percent))) is not None
    ]
    return _table(["Labeled", "UG-MCL less supervised", "published"], rows)


def _trainings(results: Results) -> str:
    head = ["Method", "Seed", "Iterations", "s per iteration", "Minutes", "Device", "Machine",
            "Finished", "Commit", "Folder"]  # fmt: skip
    rows = []
    for result in results.present:
        for replicate, record in result.records.items():
            time, adopted = record["time"], record["adopted"]
            each = time["seconds_per_iteration"]
            rows.append(
                [
                    result.row.label,
                    str(replicate),
                    str(record["profile"]["iterations"]),
                    "-" if each is None else f"{each:.2f}",
                    f"{time['seconds'] / 60:.0f}",
                    record["device"] or "-",
                    record["machine"] or "-",
                    record["finished"],
                    _short(record["commit"]) or f"adopted from {adopted}",
                    f"`{record['training']}`",
                ]
            )
    text = (
        "Times are the wall time of the iterations alone, from each training's log; whatever else "
        "ran on the machine is in them."
    )
    return _table(head, rows) + "\n\n" + text


def _short(commit: str | None) -> str | None:
    if commit is None:
        return None
    return commit[:7] + (" (changed)" if commit.endswith("+") else "")


def _name(result: Result) -> str:
    return f"{result.row.label} †" if result.row.own else result.row.label


def _measure(result: Result, results: Results, name: str, largest: bool = False) -> str:
    return _shown(name, statistics.mean(result.values(results.cases, name, largest)))


def _shown(name: str, value: float, places: str = ".2f") -> str:
    if math.isnan(value):
        return "-"
    return f"{100 * value if name in _PERCENT else value:{places}}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
