"""A worker without a model: speaks the protocol of docs/architecture.md and thresholds the image.

Environment variables make it misbehave: FAKE_CRASH (start, import, run, killed, signal,
gibberish), FAKE_LOADING (seconds that it loads, and says so), FAKE_SLOW (seconds that a run
takes), FAKE_NO_HELLO, FAKE_DEAF (ignores a cancel), FAKE_NO_STDIN (ends as if its stdin were
closed), FAKE_ERROR (the message of an error), FAKE_CLASSES (1 or 2), FAKE_LEVEL (the threshold),
FAKE_STRUCTURE (what class 1 is called instead, in green), FAKE_ADVICE (what a result advises),
FAKE_LABELS (a label file of the same grid to answer with instead), FAKE_FIELD (the name of another
field, of 100 times the uncertainty), FAKE_KEEP (a folder for copies of the outputs),
FAKE_COMPRESS. What it does for fine-tuning, ranking and evaluation is in
fake_training. It keeps no state, and imports SimpleITK only once it is asked for something.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import fake_training

CLASSES = (
    {"value": 1, "name": "left atrium", "color": [0.86, 0.36, 0.31],
     "terminology": {"scheme": "SCT", "code": "82471001", "meaning": "Left atrium"}},
    {"value": 4, "name": "scar", "color": [0.95, 0.8, 0.2], "terminology": None},
)  # fmt: skip
SCALE = 10.0


def say(event: str, **content) -> None:
    sys.stdout.write(json.dumps({"event": event, **content}) + "\n")
    sys.stdout.flush()


class Canceled(Exception):
    pass


def segment(request: dict, canceled) -> None:
    """Write the files and report the result; `canceled()` is checked between small steps."""
    ident = request["id"]
    if message := os.environ.get("FAKE_ERROR"):
        say("error", id=ident, message=message)
        return
    say("log", id=ident, level="info", text=f"model {request['model']}")
    slow = float(os.environ.get("FAKE_SLOW", 0))
    steps = max(1, int(slow / 0.05))
    for step in range(steps):
        if canceled():
            raise Canceled
        time.sleep(slow / steps)
        left = slow * (1 - (step + 1) / steps)
        say("progress", id=ident, fraction=(step + 1) / steps, text="Computing", remaining=left)
    if os.environ.get("FAKE_CRASH") == "run":
        sys.stderr.write("Traceback (most recent call last):\nMemoryError: no more memory\n")
        sys.stderr.flush()
        os._exit(3)
    if os.environ.get("FAKE_CRASH") == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("FAKE_CRASH") == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
    if os.environ.get("FAKE_CRASH") == "gibberish":
        say("progress", id=ident, fraction="half")
        time.sleep(2)
    say("result", id=ident, **outputs(request))


def outputs(request: dict) -> dict:
    import numpy as np
    import SimpleITK as sitk

    started = time.monotonic()
    given = request["image"]
    paths = given if isinstance(given, list) else [given]  # of several channels the mean
    channels = [sitk.Cast(sitk.ReadImage(path), sitk.sitkFloat32) for path in paths]
    image = sum(channels[1:], channels[0]) / len(channels) if channels[1:] else channels[0]
    folder, stem = Path(request["output"]), request["stem"]
    level = float(os.environ.get("FAKE_LEVEL", 100))
    classes = CLASSES[: int(os.environ.get("FAKE_CLASSES", 1))]
    if other := os.environ.get("FAKE_STRUCTURE"):
        classes = ({**classes[0], "name": other, "color": [0.1, 0.8, 0.2]}, *classes[1:])
    if given := os.environ.get("FAKE_LABELS"):
        image = sitk.Cast(sitk.ReadImage(given), sitk.sitkFloat32)
        level = 0.5
    masks = [image > level * (1 + 0.5 * n) for n in range(len(classes))]
    labels = sitk.Cast(masks[0], sitk.sitkUInt8)
    for info, mask in zip(classes[1:], masks[1:], strict=True):
        keep = sitk.Cast(mask == 0, sitk.sitkUInt8)
        labels = labels * keep + sitk.Cast(mask, sitk.sitkUInt8) * info["value"]
    write(labels, folder / f"{stem}_labels.nrrd")
    told, uncertainty = [], None
    for info, mask in zip(classes, masks, strict=True):
        distance = sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True)
        distance = sitk.Clamp(distance, sitk.sitkFloat32, -SCALE, SCALE)
        path = folder / f"{stem}_sdf_{info['value']}.nrrd"
        write(distance, path)
        soft = sitk.Exp(-0.8 * sitk.Abs(distance))
        if given:  # surer in some places than in others, as models are
            waves = sitk.PhysicalPointSource(
                sitk.sitkVectorFloat32,
                image.GetSize(),
                image.GetOrigin(),
                image.GetSpacing(),
                image.GetDirection(),
            )
            x, y, z = (sitk.VectorIndexSelectionCast(waves, n) for n in range(3))
            wave = sitk.Sin(x * 0.13 + 1) * sitk.Sin(y * 0.11 + z * 0.05)
            soft = soft * sitk.Cast(0.55 + 0.4 * wave, sitk.sitkFloat32)
        uncertainty = soft if uncertainty is None else sitk.Maximum(uncertainty, soft)
        voxels = int(np.sum(sitk.GetArrayViewFromImage(labels) == info["value"]))
        volume = voxels * float(np.prod(image.GetSpacing())) / 1000
        told.append({**info, "sdf": str(path), "volume_ml": volume, "mean_uncertainty": 0.08,
                     "volume_interval_ml": [0.9 * volume, 1.2 * volume] if request["passes"]
                     else None,
                     "unsure_surface": 0.06 if request["passes"] else None})  # fmt: skip
    path = None
    if request["passes"]:
        path = folder / f"{stem}_uncertainty.nrrd"
        write(uncertainty, path)
        error = folder / f"{stem}_surface_error.nrrd"
        write(6 * uncertainty, error)
    more = {}
    if field := os.environ.get("FAKE_FIELD"):
        more[field] = str(folder / f"{stem}_{field}.nrrd")
        write(100 * uncertainty, Path(more[field]))
    return {
        **more,
        "labels": str(folder / f"{stem}_labels.nrrd"),
        "uncertainty": str(path) if path else None,
        "surface_error": str(error) if path else None,
        "predicted_dice": [0.93, 0.89, 0.97] if path else None,
        "classes": told,
        "sdf_scale_mm": SCALE,
        "advice": [text] if (text := os.environ.get("FAKE_ADVICE")) else [],
        "model": request["model"],
        "device": "cpu",
        "passes": request["passes"],
        "seconds": time.monotonic() - started,
    }


def write(image, path: Path) -> None:
    import SimpleITK as sitk

    if keep := os.environ.get("FAKE_KEEP"):  # a copy for the tests to compare with
        sitk.WriteImage(image, str(Path(keep) / path.name), useCompression=False)
    sitk.WriteImage(image, str(path), useCompression=bool(os.environ.get("FAKE_COMPRESS")))


def handle(request: dict, canceled, paused=lambda: False, told=list) -> None:
    try:
        command = request["command"]
        if command == "segment":
            segment(request, canceled)
        elif message := os.environ.get("FAKE_ERROR"):
            say("error", id=request["id"], message=message)
        elif command in ("estimate", "evaluate"):
            rest = (canceled,) if command == "estimate" else ()
            getattr(fake_training, command)(request, say, *rest)
        elif command in ("finetune", "rank", "keep_learning"):
            rest = {"finetune": (paused,), "keep_learning": (paused, told)}.get(command, ())
            if not getattr(fake_training, command)(request, say, canceled, *rest):
                raise Canceled
        else:
            say("error", id=request["id"], message=f"unknown command {request['command']}")
    except Canceled:
        say("canceled", id=request["id"])


def serve() -> None:
    """Answer requests from stdin; the main thread listens, so that a cancel is heard at once."""
    canceled: set[str] = set()
    paused: set[str] = set()
    said: list[str] = []
    deaf = bool(os.environ.get("FAKE_DEAF"))
    thread = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["command"] == "shutdown":
            break
        if request["command"] == "cancel":
            if not deaf:
                canceled.add(request["id"])
                say("canceling", id=request["id"])
            continue
        ident = request["id"]
        if request["command"] in ("pause", "continue"):
            (paused.add if request["command"] == "pause" else paused.discard)(ident)
            continue
        if request["command"] in ("add_case", "take_model", "stop"):
            said.append(request["command"])
            say("told", id=ident, what=request["command"])
            continue
        say("accepted", id=ident)
        thread = threading.Thread(
            target=handle,
            args=(
                request,
                lambda ident=ident: ident in canceled,
                lambda ident=ident: ident in paused,
                lambda: [said.pop(0) for _ in range(len(said))],
            ),
            daemon=True,
        )
        thread.start()
    if thread is not None and thread.is_alive():  # it may leave a checkpoint
        canceled.add(ident)
        thread.join(3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Path)
    parser.add_argument("--cancel-file", type=Path)
    parser.add_argument("--on")
    arguments = parser.parse_args()
    if os.environ.get("FAKE_CRASH") == "start":
        sys.stderr.write("ImportError: no module named torch\n")
        sys.exit(1)
    if os.environ.get("FAKE_CRASH") == "import":
        say("error", id=None, message="PyTorch cannot be used: DLL load failed")
        sys.exit(2)
    if arguments.job:
        handle(json.loads(arguments.job.read_text()), arguments.cancel_file.exists)
        return
    if loading := os.environ.get("FAKE_LOADING"):
        sys.stderr.write("ugmcl: loading PyTorch\n")
        sys.stderr.flush()
        time.sleep(float(loading))
    if os.environ.get("FAKE_NO_HELLO"):
        time.sleep(600)
    if os.environ.get("FAKE_NO_STDIN"):
        return
    devices = [{"name": "cpu", "text": "CPU (2 threads)"}]
    names = ("supervised", "ugmcl", "ugmcl-plus", "ugmcl-volumes")
    methods = [{"name": name, "text": f"{name} is one"} for name in names]
    say("hello", pid=os.getpid(), protocol=1, version="0.0", torch="none", devices=devices,
        methods=methods, on=arguments.on)  # fmt: skip
    serve()


if __name__ == "__main__":
    main()
