"""The report of a fine-tuning on cases that it was not trained on: a line, a table, a page."""

from __future__ import annotations

import html
import math
import time
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ugmcl_core.training.settings import BETTER, NOT_BETTER
from UGMCLSegmentationLib.panel.improve.finetuning import lineChart
from UGMCLSegmentationLib.scene import taggedNodes
from UGMCLSegmentationLib.storage import runFolder

FILE = "report.html"
_KIND = "report"
_MEASURES = (("dice", "Dice", 3), ("hd95_mm", "95HD (mm)", 2))


def summary(result: dict[str, Any]) -> str:
    """The panel's message, as confident as the cases allow."""
    if result["model"] is None:
        lines = [_("The former model stays selected: none was better.")]
    elif result["verdict"] == BETTER:
        lines = [_("Better: the new model is selected.")]
    elif result["verdict"] == NOT_BETTER:
        lines = [_("Not better: the former model stays selected.")]
    else:
        text = _("Not enough evidence: the new model is selected, look at its results first.")
        lines = [text]
    if result.get("text"):
        lines.append(result["text"])  # the worker's numbers and their meaning
    if result["model"] is not None and result["verdict"] == NOT_BETTER:
        lines.append(_("More corrected cases of the kind that fail help more than more steps."))
    if result.get("report") == "leave-one-out":
        lines.append(_("Each labeled case was measured with a model fine-tuned without it."))
    if result.get("report") == "arrival":
        lines.append(_("Each accepted case was measured before the model learned from it."))
    return " ".join(lines)


def rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Titles and texts: a row for each case, where there are several structures for the Dice of
    each, and for the mean; "" where there is no number."""
    cases = result.get("cases") or []
    stages = [("before", _("before")), ("after", _("after")), ("supervised", _("labels only"))]
    # from scratch there is nothing before
    stages = [s for s in stages if s[0] == "after" or any(case.get(s[0]) for case in cases)]
    columns = [(stage, key, digits, f"{title} {text}" if len(stages) > 1 else title)
               for key, title, digits in _MEASURES for stage, text in stages]  # fmt: skip
    table = []
    for case in cases:
        numbers = [_text(_value(case, c[0], c[1]), c[2]) for c in columns]
        table.append([case["name"], *numbers])
    for name in _structures(cases):
        dice = [_text(_meanOf(cases, stage, name), digits) if key == "dice" else ""
                for stage, key, digits, _title in columns]  # fmt: skip
        table.append([_("Mean of {name}").format(name=name), *dice])
    if len(cases) > 1:
        mean = [_text(_mean(cases, c[0], c[1]), c[2]) for c in columns]
        table.append([_("Mean"), *mean])
    return [_("Case"), *(column[3] for column in columns)], table


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Model, base, method, steps, cases and date, as titles and texts."""
    about, request = result.get("about", {}), result.get("request", {})
    return [
        (_("New model"), nameOf(result)),
        (_("Started from"), about.get("base") or _("nothing (from scratch)")),
        (_("Method"), request.get("method", "")),
        (_("Steps"), str(request.get("iterations") or result.get("steps", ""))),
        (_("Cases"), about.get("cases", "")),
        (_("Work saved"), workSaved(about.get("corrections", []))),
        (_("Date"), about.get("date") or time.strftime("%Y-%m-%d %H:%M")),
    ]


def workSaved(corrections: list[list[Any]]) -> str:
    """What the results of models saved in correcting these cases ([name, voxels changed, voxels of
    the structures, minutes]); "" without any."""
    if not corrections:
        return ""
    edited, whole, minutes = (sum(row[n] for row in corrections) for n in (1, 2, 3))
    text = _(
        "models drew {kept:.0f} % of the voxels of {count} corrected cases; {edited:.0f} voxels "
        "and {minutes:.1f} min of corrections for each"
    )
    count = len(corrections)
    return text.format(kept=100 * max(0.0, 1 - edited / whole) if whole else 0.0, count=count,
                       edited=edited / count, minutes=minutes / count)  # fmt: skip


def _work(corrections: list[list[Any]]) -> str:
    """A table of the corrections, "" without any."""
    if not corrections:
        return ""
    titles = (_("Corrected case"), _("Voxels changed"), _("of the structures"), _("Minutes"))
    head = "".join(f"<th>{html.escape(t)}</th>" for t in titles)
    body = ""
    for name, edited, whole, minutes in corrections:
        part = f"{100 * edited / whole:.1f} %" if whole else ""
        cells = (str(name), str(edited), part, f"{minutes:.1f}")
        body += "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>"
    return f"<table class='plain'><tr>{head}</tr>{body}</table>"


def nameOf(result: dict[str, Any]) -> str:
    """The name of the new model, of the run where it made none."""
    model = result["model"]
    return Path(model).name if model else result.get("request", {}).get("name", "")


def show(result: dict[str, Any]):
    """Fill the table node of the scene, one for all reports; returns it."""
    name = _("Report on {model}").format(model=nameOf(result))
    node = taggedNodes.fillTable(_KIND, name, *rows(result))
    about = "\n".join(f"{title}: {text}" for title, text in facts(result) if text)
    node.SetDescription(f"{summary(result)}\n{about}")
    return node


def write(result: dict[str, Any], folder: Path) -> Path:
    """The same as a page with the curves, in the run's folder. Raises PanelError."""
    path = folder / FILE
    runFolder.write(path, page(result, list(runFolder.metrics(folder))))
    return path


def page(result: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """HTML that needs nothing else; texts from outside are escaped."""
    titles, texts = rows(result)
    head = "".join(f"<th>{html.escape(t)}</th>" for t in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(t)}</td>" for t in row) + "</tr>" for row in texts
    )
    curves = _losses(events) + _dice(events)
    table = f"<table><tr>{head}</tr>{body}</table>" if texts else ""
    work = _work(result.get("about", {}).get("corrections", []))
    note = _("Dice is 1 for a perfect overlap. 95HD is the distance within which 95 % of the "
             "surfaces agree. For research, not for clinical use.")  # fmt: skip
    return (
        "<!DOCTYPE html><html><head><meta charset='utf-8'><title>UGMCL Segmentation</title>"
        "<style>body{font:15px sans-serif;max-width:52em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3em .7em;"
        "text-align:right}td:first-child,th:first-child{text-align:left}"
        "table:not(.plain) tr:last-child{font-weight:bold}.plain{margin-top:1.5em}"
        "dl{display:grid;grid-template-columns:9em 1fr}"
        "dd{margin:0}svg{width:100%}figure{margin:1.5em 0}</style></head><body>"
        f"<h1>{html.escape(_('Fine-tuning report'))}</h1>"
        f"<p><strong>{html.escape(summary(result))}</strong></p>"
        "<dl>"
        + "".join(
            f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts(result) if v
        )
        + f"</dl>{table}{work}{curves}<p>{html.escape(note)}</p></body></html>\n"
    )


def _losses(events: list[dict[str, Any]]) -> str:
    total = [(e["step"], sum(e["losses"].values())) for e in events if e.get("losses")]
    title = _("Sum of the losses")
    return lineChart.svg({title: total}, _("Step"), title)


def _dice(events: list[dict[str, Any]]) -> str:
    """The mean over the hold-out cases, and that of each structure where there are several."""
    title = _("Hold-out Dice")
    curves = {title: [(e["step"], e["dice"]) for e in events if e.get("dice") is not None]}
    classes = [(e["step"], e["classes"]) for e in events if e.get("classes")]
    for name in dict.fromkeys(n for _step, means in classes for n in means):
        one = [(step, means[name]) for step, means in classes if means.get(name) is not None]
        curves[_("{name}: Dice").format(name=name)] = one
    return lineChart.svg(curves, _("Step"), _("Dice"))


def _value(case: dict[str, Any], stage: str, key: str) -> float | None:
    value = (case.get(stage) or {}).get(key)
    return float(value) if value is not None and math.isfinite(value) else None


def _mean(cases: list[dict[str, Any]], stage: str, key: str) -> float | None:
    known = [v for case in cases if (v := _value(case, stage, key)) is not None]
    return sum(known) / len(known) if known else None


def _structures(cases: list[dict[str, Any]]) -> list[str]:
    """The names of the structures that were measured, none where there is one alone."""
    names = list(dict.fromkeys(name for case in cases for name in _classes(case, "after")))
    return names if len(names) > 1 else []


def _classes(case: dict[str, Any], stage: str) -> dict[str, float | None]:
    return (case.get(stage) or {}).get("classes") or {}


def _meanOf(cases: list[dict[str, Any]], stage: str, name: str) -> float | None:
    """The mean Dice of a structure over the cases that show it."""
    values = [_classes(case, stage).get(name) for case in cases]
    known = [v for v in values if v is not None and math.isfinite(v)]
    return sum(known) / len(known) if known else None


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
