"""What the worker does for each request; the loaded model is kept for the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data import guarded, pairing, volume
from ..errors import Canceled, InputError, in_one_line
from ..evaluation.compare import check_target, compare
from ..inference import result_files
from ..inference.ranking import Assessment, assess, described, ranked
from ..inference.segmenter import Segmenter
from ..inference.settings import SegmentSettings
from ..models.model import resolve
from ..training.finetuning.estimate import estimate
from ..training.finetuning.finetune import finetune
from ..training.keep_learning.learning import keep_learning
from ..training.settings import FinetuneSettings, KeepLearningSettings
from .progress import Control, ProgressEvents, Send
from .protocol import EstimateRequest, EvaluateRequest, RankRequest, Request, SegmentRequest


class RequestHandler:
    """Does one request at a time, in the main thread."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None
        self._loaded: tuple[Any, ...] = ()

    def do(self, request: Request, send: Send, control: Control) -> dict[str, Any]:
        """The content of the `result` event; raises InputError and Canceled."""
        canceled = control.canceled
        if isinstance(request, SegmentRequest):
            return self._segment(request, ProgressEvents(send), canceled)
        if isinstance(request, FinetuneSettings):
            self._segmenter = None  # a training needs the memory
            if isinstance(request, EstimateRequest):
                return estimate(request, send, ProgressEvents(send), canceled)
            return finetune(request, send, ProgressEvents(send), canceled)
        if isinstance(request, KeepLearningSettings):
            self._segmenter = None
            return keep_learning(request, send, _without_end(send), canceled, control.told)
        if isinstance(request, RankRequest):
            return self._rank(request, send, canceled)
        return _evaluate(request)

    def _segment(
        self, request: SegmentRequest, progress: ProgressEvents, canceled: Callable[[], bool]
    ) -> dict[str, Any]:
        progress(0.0, "reading")
        channels = len(resolve(request.model).card.channels)
        images = volume.read_images(request.image, channels)
        if canceled():
            raise Canceled
        progress(0.0, "loading the model")
        segmenter = self._load(request.model, request.device)
        settings = SegmentSettings(
            request.passes,
            request.all_components,
            request.overlap,
            uncertainty=request.uncertainty,
        )
        folder, stem = result_files.make_folder(request.output), request.output_stem
        result_files.check(folder, stem, segmenter.model, settings.passes > 0)
        found = segmenter.segment(
            images, settings, roi=request.roi, progress=progress, canceled=canceled
        )
        if canceled():
            raise Canceled
        progress(0.95, "writing")
        # the panel wants them uncompressed: it reads them once, in small steps, and deletes them
        written = result_files.write(found, segmenter.model, folder, stem, request.compress)
        return result_files.describe(
            found, segmenter.model, written, str(segmenter.device), settings.passes
        )

    def _rank(
        self, request: RankRequest, send: Send, canceled: Callable[[], bool]
    ) -> dict[str, Any]:
        """Assess each image; one that cannot be read is logged and left out."""
        progress = ProgressEvents(send)
        progress(0.0, "loading the model")
        segmenter = self._load(request.model, request.device)
        found: list[tuple[str | list[str], Assessment]] = []
        total = len(request.images)
        for number, paths in enumerate(request.images):
            case = paths[0] if len(paths) == 1 else list(paths)
            name = pairing.stem(paths[0])

            def advance(fraction: float, _: str, number: int = number, name: str = name) -> None:
                progress((number + fraction) / total, f"assessing {name}")

            advance(0.0, "")
            if canceled():
                raise Canceled
            try:
                images = guarded.read_images(paths, len(segmenter.model.card.channels))
                for remark in dict.fromkeys(r for v in images for r in v.remarks):
                    send("log", level="warning", text=remark)
                passes = request.passes
                item = assess(segmenter, images, passes, progress=advance, canceled=canceled)
            except InputError as error:
                send("log", level="warning", text=in_one_line(error))
                continue
            found.append((case, item))
            send("ranked", **described(case, item))
        if not found:
            raise InputError("rank: none of the images can be used; see the log for the reasons")
        return {"cases": [described(*pair) for pair in ranked(found)]}

    def _load(self, name: str, device: str) -> Segmenter:
        """The segmenter of the last request if it is the same model, unchanged on disk."""
        model = resolve(name)
        wanted = (model.folder, model.card.sha256, device)
        if self._segmenter is None or self._loaded != wanted:
            self._segmenter = None  # free its memory before the next one needs some
            self._segmenter, self._loaded = Segmenter(model, device), wanted
        return self._segmenter


def _evaluate(request: EvaluateRequest) -> dict[str, Any]:
    files = Path(request.prediction), Path(request.reference)
    if request.errors:
        check_target(Path(request.errors), *files)
    found = compare(*files, request.values)
    if request.errors:
        volume.write(Path(request.errors), found.errors)
    keys = ("dice", "jaccard", "asd_mm", "hd95_mm")
    return {
        "classes": [
            {"value": s.value, **{key: getattr(s.scores, key) for key in keys}}
            for s in found.structures
        ]
    }


def _without_end(send: Send) -> Callable[[float, str], None]:
    """Sends `progress` of open-ended work, which has no remaining time."""
    return lambda fraction, text: send(
        "progress", fraction=round(fraction, 4), text=text, remaining=None
    )
