"""`ugmcl evaluate`: predictions against references."""

from __future__ import annotations

import argparse
import csv
import errno
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, in_one_line
from ..files import plain, unwritable, whole_file
from ..models import manifest
from ..remote import cluster
from .arguments import add_cluster

if TYPE_CHECKING:
    from ..evaluation.compare import CaseFiles, CaseResult

NAME = "evaluate"
HELP = "measure predictions against references"
DESCRIPTION = """\
Compare predictions (STEM_labels.nrrd or STEM.nrrd) with references (STEM.nrrd) on the same grid:
Dice, Jaccard, average surface distance (ASD) and 95th percentile Hausdorff distance (95HD), in
voxels and mm, per case and as mean ± sd. With STEM_sdf.nrrd beside the prediction also the Dice of
SDF < 0 and the SDF's mean absolute error within 5 mm of the surface; with STEM_uncertainty.nrrd
also how well the uncertainty finds wrong voxels there (AUROC) and wrong cases (Spearman).
A measure that does not exist, such as the distance to an empty mask, is shown as - and counted.
A reference without prediction is named and makes the exit code 1, unless --cases leaves it out.
Both may be single files as well; --errors then writes where they differ."""
EPILOG = """\
examples:
  ugmcl evaluate --predictions results --references labels
  ugmcl evaluate --predictions results --references labels --cases dev.txt --csv scores.csv
  ugmcl evaluate --predictions scan_labels.nrrd --references truth.nrrd --errors errors.nrrd"""

_COLUMNS = {
    "dice": "Dice %",
    "jaccard": "Jaccard %",
    "asd": "ASD vox",
    "hd95": "95HD vox",
    "asd_mm": "ASD mm",
    "hd95_mm": "95HD mm",
    "sdf_dice": "SDF Dice %",
    "sdf_mae_mm": "SDF MAE mm",
    "auroc": "AUROC",
    "uncertainty": "Uncert.",
}
_PERCENT = ("dice", "jaccard", "sdf_dice")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to compare, and where to write the result."""
    parser.add_argument(
        "--predictions",
        required=True,
        metavar="DIR_OR_FILE",
        help="folder with STEM_labels.nrrd (from `ugmcl segment`) or STEM.nrrd, or a label map",
    )
    parser.add_argument(
        "--references",
        required=True,
        metavar="DIR_OR_FILE",
        help="folder with the reference labels STEM.nrrd (NIfTI and MHA too), or a label map",
    )
    parser.add_argument(
        "--cases",
        metavar="LISTFILE",
        help="only these cases, one name a line (default: all references)",
    )
    parser.add_argument(
        "--errors",
        metavar="FILE",
        help="for two files: write a map, 1 where only the prediction holds a structure, 2 where "
        "only the reference does, 3 where they hold different ones",
    )
    parser.add_argument("--csv", metavar="FILE", help="also write the table per case to this file")
    add_cluster(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Print the table. Returns 1 if some cases could not be measured, including references without
    prediction unless `--cases` leaves them out."""
    began = time.monotonic()
    from ..evaluation import compare

    cases, problems = _cases(arguments)
    results, failed = _measured(arguments, cases)
    problems += failed
    for problem in problems:
        print(f"ugmcl: {problem}", file=sys.stderr)
    if not results:
        return 2
    if notice := compare.check_common([r.values for r in results], arguments.predictions):
        print(f"evaluate: {notice}", file=sys.stderr)
    rows = compare.rows(results)
    totals = compare.totals(results)
    if arguments.csv:
        _write_csv(Path(arguments.csv), rows)
    for written in filter(None, (arguments.csv, arguments.errors)):
        used = [p for c in cases for p in (c.prediction, c.reference, *c.sdf, c.uncertainty)]
        manifest.write(
            Path(f"{written}.{manifest.NAME}"),
            NAME,
            options=manifest.options_of(arguments),
            inputs=used,
            device=None,
            seconds=time.monotonic() - began,
        )
    if arguments.json:
        print(json.dumps(plain({"cases": rows, **totals, "problems": problems})))
    else:
        print(_table(rows, totals))
        if problems:
            print(f"not measured: {len(problems)} (see above)")
    return 1 if problems else 0


def _cases(arguments: argparse.Namespace) -> tuple[list[CaseFiles], list[str]]:
    """The cases to measure, and a line for each that lacks a file; writes the map of errors of two
    files. Raises InputError."""
    from ..data import volume
    from ..data.pairing import read_list
    from ..evaluation import compare

    names = read_list(arguments.cases) if arguments.cases else None
    places = Path(arguments.predictions), Path(arguments.references)
    for target in (arguments.errors, arguments.csv):
        if target:
            compare.check_target(Path(target), *places)
    if arguments.csv:
        _check_writable(Path(arguments.csv))
    if any(p.is_file() for p in places):
        if names is not None:
            raise InputError("--cases is for folders: give it with two folders")
        cases = [compare.pair_of_files(*places)]
        if arguments.errors:
            volume.write(Path(arguments.errors), compare.compare(*places).errors)
        return cases, []
    if arguments.errors:
        raise InputError("--errors needs two files: name them with --predictions and --references")
    cases, missing = compare.find_cases(*places, names)
    for line in compare.left_over(*places) if names is None else ():
        print(f"ugmcl: {line}", file=sys.stderr)
    lacking = "the prediction or the reference is missing" if names else "there is no prediction"
    return cases, [f"{name}: {lacking}" for name in missing]


def _measured(
    arguments: argparse.Namespace, cases: Sequence[CaseFiles]
) -> tuple[list[CaseResult], list[str]]:
    """The results in the order of ``cases``, and a line for each that could not be measured."""
    from ..evaluation import compare
    from .progress import Progress

    results: list[CaseResult] = []
    failed = []
    with Progress("evaluate") as progress:
        tasks = {case.name: (case,) for case in cases}
        for name, outcome in cluster.outcomes(
            arguments.cluster, compare.evaluate, tasks, progress, progress.write
        ):
            if isinstance(outcome, InputError):
                failed.append(f"{name}: {in_one_line(outcome)}")
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                results.append(outcome)
    order = {case.name: number for number, case in enumerate(cases)}
    results.sort(key=lambda result: order[result.name])  # a cluster finishes them in any order
    return results, failed


def _check_writable(path: Path) -> None:
    """Raise InputError unless a file can be created there, before work that may take an hour."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise unwritable(path, error) from None


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """A value for a CSV file; an apostrophe keeps spreadsheets from running a text as formula."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def _table(rows: Sequence[dict[str, Any]], totals: dict[str, Any]) -> str:
    several = len({row["label"] for row in rows}) > 1
    shown = [k for k in _COLUMNS if any(not math.isnan(row[k]) for row in rows)]
    width = max(len("mean ± sd"), *(len(row["case"]) for row in rows))
    places = {k: max(len(_COLUMNS[k]), 13) for k in shown}
    head = f"{'case':{width}}  " + ("label  " if several else "")
    lines = [head + "  ".join(f"{_COLUMNS[k]:>{places[k]}}" for k in shown)]
    for row in rows:
        label = f"{row['label']:>5}  " if several else ""
        values = "  ".join(f"{_number(k, row[k]):>{places[k]}}" for k in shown)
        lines.append(f"{row['case']:{width}}  {label}{values}")
    for label, measures in totals["summary"].items():
        mark = f"{label:>5}  " if several else ""
        values = "  ".join(f"{_spread(k, measures[k]):>{places[k]}}" for k in shown)
        lines.append(f"{'mean ± sd':{width}}  {mark}{values}")
        missing = {_COLUMNS[k]: measures[k]["missing"] for k in shown if measures[k]["missing"]}
        if missing:
            counted = ", ".join(f"{name} in {count}" for name, count in missing.items())
            lines.append(f"no value (left out of the mean): {counted}")
    cases = len({row["case"] for row in rows})
    lines.append(f"{cases} case{'s' if cases > 1 else ''}")
    if not math.isnan(totals["spearman"]):
        lines.append(
            f"rank correlation of case uncertainty with case Dice: {totals['spearman']:.3f} "
            "(-1: unsure exactly where it is worse)"
        )
    return "\n".join(lines)


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name in ("auroc", "uncertainty"):
        return f"{value:.3f}"
    return f"{100 * value if name in _PERCENT else value:.2f}"


def _spread(name: str, measure: dict[str, float]) -> str:
    if measure["count"] < 2:
        return _number(name, measure["mean"])
    return f"{_number(name, measure['mean'])} ± {_number(name, measure['sd'])}"
