"""`ugmcl segment`: labels, signed distance and uncertainty of images."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Canceled, InputError, in_one_line
from ..inference.settings import (
    MOST_OVERLAP,
    MOST_PASSES,
    MOST_PATCHES,
    UNCERTAINTIES,
    UNSURE_MM,
    SegmentSettings,
)
from ..models import manifest
from .arguments import (
    add_cluster,
    add_device,
    add_images,
    add_model,
    add_on,
    as_given,
    computer_of,
    passes,
)

if TYPE_CHECKING:
    from ..inference.segmenter import Segmenter
    from ..models.model import Model
    from ..remote.connection import Computer
    from .progress import Progress

NAME = "segment"
HELP = "segment images"
DESCRIPTION = """\
Segment 3D images and write, for each IMAGE named STEM, on its own grid:

  STEM_labels.nrrd        the structures, with the values of the labels that the model learned from
  STEM_sdf.nrrd           signed distance to the surface in mm, negative inside
                          (STEM_sdf_CLASS.nrrd for each of several structures)
  STEM_uncertainty.nrrd   where the model is unsure: predictive entropy, 0 to 1
  STEM_surface_error.nrrd how far the surface may be off: mm that nine of ten of its points
                          stay within, where the true surface may be

Images of one name take that of their folder too: p1_DICOM and p2_DICOM of p1/DICOM and p2/DICOM.
A model of several images a case takes CASE_0000, CASE_0001, ... or CASE_t1, CASE_t2, ... as one
case named CASE, or one file that holds all of them; images with commas between are one case too.
Results of an earlier run are replaced. A file of such a name that ugmcl did not write is never
replaced: its image fails. A folder given as IMAGE stands for its images, without such files."""
EPILOG = """\
examples:
  ugmcl segment scan.nrrd --output results
  ugmcl segment scans/ dicom/patient1/ --output results --json
  ugmcl segment scan.nrrd --output results --uncertainty both
  ugmcl segment t1.nrrd,flair.nrrd --output results --model runs/tumor/model
  ugmcl segment scan.nii.gz --output results --roi -60,60,-80,40,-50,50 --device cuda
  ugmcl segment scans/ --output results --on me@gpu-box"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images, a model, and how to segment."""
    add_images(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    add_model(parser)
    add_device(parser)
    parser.add_argument(
        "--uncertainty-passes",
        type=passes,
        default=SegmentSettings.passes,
        metavar="T",
        help=f"Monte Carlo passes for the uncertainty, 0 to {MOST_PASSES}; 0 writes none "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--uncertainty",
        choices=UNCERTAINTIES,
        default=SegmentSettings.uncertainty,
        help="what varies: dropout (Monte Carlo passes), flips (mirrored views, where the model "
        "was trained on them; needs no passes of its own), or both (the passes spread over the "
        "mirrored views) (default: %(default)s)",
    )
    parser.add_argument(
        "--roi",
        type=box,
        metavar="x0,x1,y0,y1,z0,z1",
        help="segment only this box, in mm, RAS (x to the right, y to the front, z up); "
        "everything outside is background",
    )
    parser.add_argument(
        "--all-components",
        action="store_true",
        help="keep every island of a structure that is one piece, not only the one that the "
        "model is surest of",
    )
    parser.add_argument(
        "--overlap",
        type=overlap,
        metavar="F",
        help="pass windows of the model's patch that overlap by at least this share, "
        f"0 to {MOST_OVERLAP}; more takes longer and averages more (default: a scan of up to "
        f"{MOST_PATCHES} patches in one window, a larger one with 0.5)",
    )
    add_on(parser)
    add_cluster(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out images that the folder holds the results of, by the same model and "
        "settings (see their manifests)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per image on stdout"
    )


def overlap(text: str) -> float:
    """Number from 0 to MOST_OVERLAP."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= MOST_OVERLAP:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_OVERLAP}")
    return share


def box(text: str) -> tuple[float, ...]:
    """Six finite numbers, each lower bound below its upper one."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    ordered = all(a < b for a, b in zip(numbers[::2], numbers[1::2], strict=False))
    if len(numbers) != 6 or not ordered or any(abs(n) == float("inf") for n in numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not x0,x1,y0,y1,z0,z1 in mm with x0 < x1, y0 < y1, z0 < z1"
        )
    return numbers


def run(arguments: argparse.Namespace) -> int:
    """Segment every image; a failure is reported and the others continue, even if nobody reads
    the output any more.

    Returns 0, 1 if some failed, 2 if all did.
    """
    from ..inference import result_files
    from ..models.model import resolve
    from .images import cases_of, find_images, split
    from .progress import print_line

    def report(wrong: dict[str, InputError]) -> None:
        for name, error in wrong.items():
            if arguments.debug:
                traceback.print_exception(error)
            print_line(f"ugmcl: {in_one_line(error)}", sys.stderr)
            if arguments.json:
                print_line(json.dumps({"image": name, "error": in_one_line(error)}), sys.stdout)

    single, together = split(arguments.images)
    images, wrong = find_images(single, lambda line: print_line(f"ugmcl: {line}", sys.stderr))
    report(wrong)
    failed, cases = len(wrong), {}
    computer = computer_of(arguments)
    if images:
        model = resolve(arguments.model)
        cases, wrong = cases_of(images, together, model, arguments.channels)
        report(wrong)
        failed += len(wrong)
    total = failed + len(cases)
    if cases:
        job = _Job(
            model.folder,
            arguments.device,
            SegmentSettings(
                arguments.uncertainty_passes,
                arguments.all_components,
                arguments.overlap,
                uncertainty=arguments.uncertainty,
            ),
            arguments.roi,
            result_files.make_folder(arguments.output),
            manifest.options_of(arguments),
        )
        if arguments.resume:
            done = {stem for stem, paths in cases.items() if _is_done(job, model, stem, paths)}
            cases = {stem: paths for stem, paths in cases.items() if stem not in done}
            print_line(f"ugmcl: {len(done)} images are segmented already", sys.stderr)
        for stem, found in _outcomes(job, model, computer, cases, arguments):
            failed += "error" in found
            if arguments.json:
                image = as_given(cases[stem])
                print_line(json.dumps({"image": image, **found}), sys.stdout)
            elif "error" not in found:
                print_line(_text(stem, found), sys.stdout)
    if not failed:
        return 0
    if total > 1:
        print_line(f"ugmcl: {failed} of {total} images failed", sys.stderr)
    return 1 if failed < total else 2


Cases = dict[str, tuple[Path, ...]]
"""The images of each case by the stem of its results."""
Outcomes = Iterator[tuple[str, dict]]
"""The stem of a case, and its description or its error."""


@dataclass(frozen=True)
class _Job:
    """The settings common to all images of a call; sent to the workers of a cluster."""

    model: Path
    device: str
    settings: SegmentSettings
    roi: tuple[float, ...] | None
    folder: Path
    options: dict[str, Any]


_COMPARED = ("uncertainty_passes", "uncertainty", "all_components", "overlap", "roi")


def _is_done(job: _Job, model: Model, stem: str, paths: tuple[Path, ...]) -> bool:
    """Whether the folder holds the image's results by the same model and settings."""
    from ..data.pairing import LABELS
    from ..models.model import record as model_record

    return (job.folder / f"{stem}{LABELS}.nrrd").is_file() and manifest.is_of(
        job.folder / f"{stem}_{manifest.NAME}",
        NAME,
        options={key: job.options[key] for key in _COMPARED},
        inputs=paths,
        model=model_record(model),
    )


def _outcomes(
    job: _Job,
    model: Model,
    computer: Computer | None,
    cases: Cases,
    arguments: argparse.Namespace,
) -> Outcomes:
    """Segment all cases: here, on another computer, or on a cluster."""
    if arguments.cluster:
        yield from _on_cluster(job, cases, arguments)
    elif computer is not None:
        with _segmenting_there(job, model, computer, arguments) as segment:
            yield from _one_by_one(segment, cases, arguments)
    else:
        loaded.cache_clear()  # the model may have changed
        loaded(job.model, job.device)  # so that an error is reported once

        def segment_here(stem: str, paths: tuple[Path, ...], progress: Progress) -> dict:
            return segment_case(job, stem, paths, progress)

        yield from _one_by_one(segment_here, cases, arguments)


def _one_by_one(
    segment: Callable[[str, tuple[Path, ...], Progress], dict],
    cases: Cases,
    arguments: argparse.Namespace,
) -> Outcomes:
    from ..nn import devices
    from .progress import Progress

    for stem, paths in cases.items():
        with Progress(stem) as progress:
            try:
                found = segment(stem, paths, progress)
            except Canceled:
                raise
            except Exception as error:
                found = {"error": in_one_line(error)}
                progress.write(f"failed: {found['error']}")
                if arguments.debug:
                    traceback.print_exc()
            else:
                for advice in found["advice"] if not arguments.json else ():
                    progress.write(advice)
        devices.release_memory()
        yield stem, found


def _on_cluster(job: _Job, cases: Cases, arguments: argparse.Namespace) -> Outcomes:
    """By the workers of a cluster, in the order in which they end."""
    from ..remote import cluster
    from .progress import Progress

    here = replace(job, model=job.model.resolve(), folder=job.folder.resolve())
    tasks = {
        stem: (here, stem, tuple(path.resolve() for path in paths))
        for stem, paths in cases.items()
    }
    with Progress("segment") as progress:
        for stem, found in cluster.outcomes(
            arguments.cluster, segment_case, tasks, progress, progress.write
        ):
            if isinstance(found, BaseException):
                found = {"error": in_one_line(found)}
                progress.write(f"{stem}: failed: {found['error']}")
            elif not arguments.json:
                for advice in found["advice"]:
                    progress.write(f"{stem}: {advice}")
            yield stem, found


@contextmanager
def _segmenting_there(
    job: _Job, model: Model, computer: Computer, arguments: argparse.Namespace
) -> Iterator[Callable[[str, tuple[Path, ...], Progress], dict]]:
    """Yields a function that segments one image on another computer and writes its results
    here."""
    from ..models.model import record as model_record
    from ..remote.handler import RemoteHandler
    from ..remote.session import GOING
    from ..worker.protocol import SegmentRequest
    from .progress import sending

    handler = RemoteHandler(computer)

    def segment(stem: str, paths: tuple[Path, ...], progress: Progress) -> dict:
        request = SegmentRequest(
            tuple(str(path) for path in paths),
            str(job.folder),
            arguments.model,
            job.device,
            job.settings.passes,
            job.roi,
            job.settings.all_components,
            stem,
            job.settings.uncertainty,
            job.settings.overlap,
            compress=True,
        )
        found = handler.do(request, sending(progress), GOING)
        _write_manifest(job, stem, paths, found, model_record(model))
        return found

    try:
        handler.session(lambda event, **content: None, GOING)  # fail once, not for each image
        yield segment
    finally:
        handler.close()


def segment_case(
    job: _Job, stem: str, paths: tuple[Path, ...], progress: Progress | None = None
) -> dict:
    """Segment the images of a case and write its results and their manifest; the description that
    --json prints. Raises InputError."""
    from ..data import guarded
    from ..inference import result_files
    from ..models.model import record as model_record

    segmenter = loaded(job.model, job.device)
    model, passes = segmenter.model, job.settings.passes
    result_files.check(job.folder, stem, model, passes > 0)
    images = guarded.read_images(paths, len(model.card.channels))
    result = segmenter.segment(images, job.settings, roi=job.roi, progress=progress)
    written = result_files.write(result, model, job.folder, stem)
    found = result_files.describe(result, model, written, str(segmenter.device), passes)
    _write_manifest(job, stem, paths, found, model_record(model))
    return found


def _write_manifest(
    job: _Job, stem: str, paths: tuple[Path, ...], found: dict, model: dict[str, str]
) -> None:
    manifest.write(
        job.folder / f"{stem}_{manifest.NAME}",
        NAME,
        options=job.options,
        inputs=paths,
        device=found["device"],
        seconds=found["seconds"],
        model=model,
    )


@lru_cache(maxsize=1)
def loaded(model: Path, device: str) -> Segmenter:
    """The segmenter of a model's folder, created once per process."""
    from ..inference.segmenter import Segmenter
    from ..models.model import open_model

    return Segmenter(open_model(model), device)


def _ml(volume: float) -> str:
    """A volume in milliliters, also of a structure of a few microliters."""
    return f"{volume:.2g}" if 0 < volume < 1 else f"{volume:.1f}"


def _text(stem: str, found: dict) -> str:
    parts = []
    for info in found["classes"]:
        unsure = info["unsure_surface"]
        tail = "" if unsure is None else (
            f", {100 * unsure:.0f} % of the surface may be off by more than {UNSURE_MM:g} mm"
        )
        low, high = info["volume_interval_ml"] or (None, None)
        interval = "" if low is None else f" (95 % interval {_ml(low)} to {_ml(high)})"
        parts.append(f"{info['name']} {_ml(info['volume_ml'])} mL{interval}{tail}")
    if found["predicted_dice"]:
        dice, low, high = found["predicted_dice"]
        parts.append(f"predicted Dice {dice:.2f} (95 % interval {low:.2f} to {high:.2f})")
    return f"{stem}: {'; '.join(parts)} ({found['seconds']:.1f} s) -> {found['labels']}"
