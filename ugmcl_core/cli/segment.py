"""`ugmcl segment`: labels, signed distance and uncertainty of images."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

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
    add_device,
    add_images,
    add_model,
    add_on,
    as_given,
    computer_of,
    passes,
)

if TYPE_CHECKING:
    from ..models.model import Model
    from ..remote.connection import Computer
    from .progress import Progress

NAME = "segment"
HELP = "segment images"
DESCRIPTION = """\
Segment 3D images and write, for each IMAGE named STEM, on its own grid:

  STEM_labels.nrrd        the structures, one value each
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
        help="keep every island of a structure that is one piece, not only the largest",
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
    from ..nn import devices
    from .images import cases_of, find_images, split
    from .progress import Progress, print_line

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
        folder = result_files.make_folder(arguments.output)
    with _segmenting(computer, model, folder, arguments) if cases else nullcontext() as segment:
        for stem, paths in cases.items():
            with Progress(stem) as progress:
                try:
                    found = segment(paths, stem, progress)
                except Canceled:
                    raise
                except Exception as error:
                    failed += 1
                    found = {"error": in_one_line(error)}
                    progress.write(f"failed: {found['error']}")
                    if arguments.debug:
                        traceback.print_exc()
            devices.release_memory()
            if arguments.json:
                print_line(json.dumps({"image": as_given(paths), **found}), sys.stdout)
            elif "error" not in found:
                print_line(_text(stem, found), sys.stdout)
    if not failed:
        return 0
    if total > 1:
        print_line(f"ugmcl: {failed} of {total} images failed", sys.stderr)
    return 1 if failed < total else 2


Segment = Callable[[tuple[Path, ...], str, "Progress"], dict]
"""Segments the images of a case by the stem of its results, and describes them."""


@contextmanager
def _segmenting(
    computer: Computer | None, model: Model, folder: Path, arguments: argparse.Namespace
) -> Iterator[Segment]:
    """What segments one image after the other and writes its results, here or at another
    computer."""
    from ..models.model import record as model_record

    def finished(paths: tuple[Path, ...], stem: str, found: dict, progress: Progress) -> dict:
        manifest.write(
            folder / f"{stem}_{manifest.NAME}",
            NAME,
            options=manifest.options_of(arguments),
            inputs=paths,
            device=found["device"],
            seconds=found["seconds"],
            model=model_record(model),
        )
        if not arguments.json:
            for advice in found["advice"]:
                progress.write(advice)
        return found

    if computer is None:
        segment = _segmenting_here(model, folder, arguments)
        yield lambda paths, stem, progress: finished(
            paths, stem, segment(paths, stem, progress), progress
        )
        return

    from ..remote.handler import RemoteHandler
    from ..remote.session import GOING
    from ..worker.protocol import SegmentRequest
    from .progress import sending

    handler = RemoteHandler(computer)

    def segment_there(paths: tuple[Path, ...], stem: str, progress: Progress) -> dict:
        request = SegmentRequest(
            tuple(str(path) for path in paths),
            str(folder),
            arguments.model,
            arguments.device,
            arguments.uncertainty_passes,
            arguments.roi,
            arguments.all_components,
            stem,
            arguments.uncertainty,
            arguments.overlap,
            compress=True,
        )
        found = handler.do(request, sending(progress), GOING)
        return finished(paths, stem, found, progress)

    try:
        handler.session(lambda event, **content: None, GOING)  # fails once, not for each image
        yield segment_there
    finally:
        handler.close()


def _segmenting_here(model: Model, folder: Path, arguments: argparse.Namespace) -> Segment:
    from ..data import guarded
    from ..inference import result_files
    from ..inference.segmenter import Segmenter

    segmenter = Segmenter(model, arguments.device)
    settings = SegmentSettings(
        arguments.uncertainty_passes,
        arguments.all_components,
        arguments.overlap,
        uncertainty=arguments.uncertainty,
    )

    def segment(paths: tuple[Path, ...], stem: str, progress: Progress) -> dict:
        result_files.check(folder, stem, model, settings.passes > 0)
        images = guarded.read_images(paths, len(model.card.channels))
        result = segmenter.segment(images, settings, roi=arguments.roi, progress=progress)
        written = result_files.write(result, model, folder, stem)
        device = str(segmenter.device)
        return result_files.describe(result, model, written, device, settings.passes)

    return segment


def _text(stem: str, found: dict) -> str:
    parts = []
    for info in found["classes"]:
        unsure = info["unsure_surface"]
        tail = "" if unsure is None else (
            f", {100 * unsure:.0f} % of the surface may be off by more than {UNSURE_MM:g} mm"
        )
        low, high = info["volume_interval_ml"] or (None, None)
        interval = "" if low is None else f" (95 % interval {low:.1f} to {high:.1f})"
        parts.append(f"{info['name']} {info['volume_ml']:.1f} mL{interval}{tail}")
    return f"{stem}: {'; '.join(parts)} ({found['seconds']:.1f} s) -> {found['labels']}"
