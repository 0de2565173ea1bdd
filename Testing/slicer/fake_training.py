"""The part of the fake worker that fine-tunes, ranks and evaluates, without learning anything.

FAKE_STEP (seconds of a step, 0.005), FAKE_GAIN (how much Dice rises, 0.05), FAKE_OPEN_AT (a file
to write the request to), FAKE_DIE_AT (a step that it dies at, unless it resumes), FAKE_HOLD_AT
(a step after which it waits to be canceled, unless it resumes), FAKE_SLOW_AT (a step that takes
half a minute, unless it resumes).
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from pathlib import Path

CHECKPOINT_EVERY, DICE_EVERY, TOLD_EVERY = 10, 20, 5


def read_cases(request: dict) -> dict:
    """The case list, every file in it found."""
    path = Path(request["case_list"])
    content = json.loads(path.read_text())
    for case in content["cases"]:
        for key in ("image", "label"):
            if key in case:
                file = path.parent / case[key]
                if not file.is_file():
                    raise FileNotFoundError(f"{file}: no such file")
                case[key] = str(file)
    return content


def estimate(request: dict, say, canceled) -> None:
    read_cases(request)
    seconds = 0.5
    say("progress", id=request["id"], fraction=0.5, text="Measuring", remaining=0.1)
    iterations = int(60 * request["minutes"] / seconds) or request["iterations"]
    plan = [{"what": "filters", "value": "16", "means": "width of the network", "why": "given"},
            {"what": "patch", "value": "96,96,10", "means": "voxels seen at once",
             "why": "a whole typical image"}]  # fmt: skip
    say("result", id=request["id"], seconds=seconds * iterations + 100,
        seconds_per_iteration=seconds, memory_bytes=1.5e9, iterations=iterations,
        plan=[] if request["base"] and not request["replan"] else plan)  # fmt: skip


def say_memory(ident: int, say) -> None:
    """FAKE_MEMORY and FAKE_GPU are bytes."""
    if held := os.environ.get("FAKE_MEMORY"):
        gpu = int(os.environ.get("FAKE_GPU", 0)) or None
        say("memory", id=ident, resident=int(held), total=16 * 10**9, gpu=gpu,
            gpu_total=24 * 10**9 if gpu else None)  # fmt: skip


def finetune(request: dict, say, canceled, paused) -> bool:
    """Step by step; False if it was canceled, a checkpoint left behind."""
    ident, content = request["id"], read_cases(request)
    if copy := os.environ.get("FAKE_OPEN_AT"):
        Path(copy).write_text(json.dumps({"request": request, "list": content}))
    output, total = Path(request["output"]), request["iterations"]
    checkpoint = output / "checkpoint.json"
    start = 0
    if request["resume"] and checkpoint.is_file():
        start = json.loads(checkpoint.read_text())["step"]
        say("log", id=ident, level="info", text=f"resumed at {start}")
    hasUnlabeled = any(case["role"] == "unlabeled" for case in content["cases"])
    held = [case for case in content["cases"] if case["role"] == "holdout"]
    seconds = float(os.environ.get("FAKE_STEP", 0.005))
    say_memory(ident, say)
    for step in range(start + 1, total + 1):
        if wait(step, ident, say, canceled, paused):
            checkpoint.write_text(json.dumps({"step": step - 1}))
            return False
        time.sleep(30 if isSlow(step, request) else seconds)
        if step == int(os.environ.get("FAKE_DIE_AT", 0)) and not request["resume"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if step % CHECKPOINT_EVERY == 0:
            checkpoint.write_text(json.dumps({"step": step}))
        if step % TOLD_EVERY == 0:
            fall = math.exp(-3 * step / total)
            losses = {"ce": 0.6 * fall, "dice": 0.8 * fall}
            if hasUnlabeled:
                losses |= {"intra": 0.1 * fall, "cross": 0.05 * fall}
            isMeasured = bool(held) and step % DICE_EVERY == 0
            say("metrics", id=ident, step=step, losses=losses, speed=1 / seconds,
                dice=0.9 - 0.3 * fall if isMeasured else None)  # fmt: skip
            say("progress", id=ident, fraction=step / total, text=f"step {step} of {total}",
                remaining=(total - step) * seconds)  # fmt: skip
        if step == int(os.environ.get("FAKE_HOLD_AT", 0)) and not request["resume"]:
            while not canceled():
                time.sleep(0.01)
    tell_result(request, content, held, say)
    return True


def keep_learning(request: dict, say, canceled, paused, told) -> bool:
    """Step by step until it is stopped; each case that joins makes it better by FAKE_GAIN; False
    if it was canceled, a checkpoint left behind."""
    ident, content = request["id"], read_cases(request)
    if copy := os.environ.get("FAKE_OPEN_AT"):
        Path(copy).write_text(json.dumps({"request": request, "list": content}))
    checkpoint = Path(request["output"]) / "checkpoint.json"
    step, used, dice, taken = 0, 0.8, 0.8, 0
    if request["resume"] and checkpoint.is_file():
        step = json.loads(checkpoint.read_text())["step"]
        say("log", id=ident, level="info", text=f"resumed at step {step}")
    held = [case for case in content["cases"] if case["role"] == "holdout"]
    known = {c["name"]: c for c in content["cases"] if c["role"] == "labeled"}
    gain, ended = float(os.environ.get("FAKE_GAIN", 0.05)), False
    say_memory(ident, say)
    while not ended:
        if wait(step, ident, say, canceled, paused):
            checkpoint.write_text(json.dumps({"step": step}))
            return False
        time.sleep(float(os.environ.get("FAKE_STEP", 0.005)))
        step += 1
        if step == int(os.environ.get("FAKE_DIE_AT", 0)) and not request["resume"]:
            checkpoint.write_text(json.dumps({"step": step}))
            os.kill(os.getpid(), signal.SIGKILL)
        if step % TOLD_EVERY == 0:
            say("progress", id=ident, fraction=step % 50 / 50, remaining=None,
                text=f"step {step}, {len(known)} labeled cases")  # fmt: skip
            say("metrics", id=ident, step=step, part="", losses={"ce": 1 / step}, dice=None,
                speed=1.0)  # fmt: skip
        for command in told():
            ended |= command == "stop"
            if command == "add_case":
                for case in read_cases(request)["cases"]:
                    if case["role"] == "labeled" and known.get(case["name"]) != case:
                        known[case["name"]] = case
                        say("joined", id=ident, name=case["name"], step=step, cases=len(known),
                            dice=used)  # fmt: skip
                        dice += gain
            if command == "take_model":
                isTaken = dice >= used
                if isTaken:
                    write_model(request, content)
                    taken += 1
                say("check", id=ident, step=step, dice=dice, former=used, case="", taken=isTaken,
                    cases=len(known), model=str(Path(request["output"]) / "model")
                    if isTaken else None)  # fmt: skip
                used = max(used, dice)
        if why := os.environ.get("FAKE_WAITING"):
            say("waiting", id=ident, why=why, step=step)
    cases = [
        {"name": c["name"], "before": {"dice": 0.8, "hd95_mm": 6.0},
         "after": {"dice": used, "hd95_mm": 5.0}, "supervised": None} for c in held
    ]  # fmt: skip
    say("result", id=ident, model=str(Path(request["output"]) / "model") if taken else None,
        report="holdout" if held else "none", cases=cases, steps=step, labeled=len(known),
        taken=taken, verdict="better" if taken and len(held) > 2 else "not enough evidence",
        text=f"Dice is {used:.3f} now.")  # fmt: skip
    return True


def isSlow(step: int, request: dict) -> bool:
    return step == int(os.environ.get("FAKE_SLOW_AT", 0)) and not request["resume"]


def wait(step: int, ident: str, say, canceled, paused) -> bool:
    """Hold while paused; whether it was canceled."""
    if paused():
        say("paused", id=ident, step=step)
        while paused() and not canceled():
            time.sleep(0.01)
        if not canceled():
            say("continued", id=ident, step=step)
    return canceled()


def tell_result(request: dict, content: dict, held: list, say) -> None:
    kind = "holdout" if held else "none"
    if not held and request["leave_one_out"]:
        held = [case for case in content["cases"] if case["role"] == "labeled"]
        kind = "leave-one-out"
    gain = float(os.environ.get("FAKE_GAIN", 0.05))
    cases = []
    for number, case in enumerate(held):
        before = {"dice": 0.8 + 0.01 * number, "jaccard": 0.7, "asd_mm": 1.5, "hd95_mm": 6.0}
        after = {**before, "dice": before["dice"] + gain, "hd95_mm": 6.0 - 20 * gain}
        other = {**after, "dice": after["dice"] - 0.02} if request["compare"] else None
        cases.append({"name": case["name"], "before": before if request["base"] else None,
                      "after": after, "supervised": other})  # fmt: skip
    verdict, text = conclude(cases, kind, gain) if request["base"] else ("not enough evidence", "")
    say("result", id=request["id"], model=str(write_model(request, content)), report=kind,
        cases=cases, verdict=verdict, text=text)  # fmt: skip


def conclude(cases: list, kind: str, gain: float) -> tuple[str, str]:
    """In the words of ugmcl_core.training.finetuning.verdict, whose import takes seconds."""
    if not cases:
        return "not enough evidence", ""
    before, now = (sum(c[k]["dice"] for c in cases) / len(cases) for k in ("before", "after"))
    called = "hold-out" if kind == "holdout" else "left-out"
    moved, rose = ("rose", len(cases)) if gain > 0 else ("fell", 0)
    text = (f"Dice {moved} by {abs(gain):.3f} on average ({before:.3f} to {now:.3f}); it rose on "
            f"{rose} of {len(cases)} {called} cases.")  # fmt: skip
    if len(cases) < 3:
        return "not enough evidence", text
    return "better" if gain > 0 else "not better", text


def write_model(request: dict, content: dict) -> Path:
    """A card that lists the classes of the case list, and weights that nobody reads."""
    folder = Path(request["output"]) / "model"
    folder.mkdir(exist_ok=True)
    card = {
        "name": request["name"], "description": "", "modality": "LGE-MRI",
        "channels": ["image"], "spacing": [1.25, 1.25, 1.25], "patch": [16, 16, 16],
        "classes": [{**info, "largest_component": True} for info in content["classes"]],
        "normalization": {"kind": "robust-z", "low": 1.0, "high": 99.0}, "network": {},
        "sha256": "0" * 64, "format": 1,
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(card))
    (folder / "weights.safetensors").write_bytes(b"")
    return folder


def rank(request: dict, say, canceled) -> bool:
    """The noisier, the more uncertain; in a constant image there is no surface to judge by."""
    import numpy as np
    import SimpleITK as sitk

    cases = []
    for number, image in enumerate(request["images"]):
        if canceled():
            return False
        first = image[0] if isinstance(image, list) else image
        array = sitk.GetArrayFromImage(sitk.ReadImage(first)).astype(float)
        noise = float(np.abs(np.diff(array, axis=2)).mean() / (np.ptp(array) or 1))
        unsure = min(1.0, 3 * noise) if np.ptp(array) else None
        dice = 1 - noise if np.ptp(array) else 0.0
        case = {"image": image, "uncertainty": unsure, "predicted_dice": dice}
        cases.append(case)
        say("ranked", id=request["id"], **case)
        say("progress", id=request["id"], fraction=(number + 1) / len(request["images"]),
            text=f"{number + 1} of {len(request['images'])}", remaining=None)  # fmt: skip
    cases.sort(key=lambda case: -1.0 if case["uncertainty"] is None else -case["uncertainty"])
    say("result", id=request["id"], cases=cases)
    return True


def evaluate(request: dict, say) -> None:
    """Real measures, computed simply; distances between voxel surfaces in mm."""
    import numpy as np
    import SimpleITK as sitk

    found, truth = (sitk.ReadImage(request[key]) for key in ("prediction", "reference"))
    a, b = sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(truth)
    values = request["values"] or sorted((set(np.unique(a)) | set(np.unique(b))) - {0})
    classes = []
    for value in values:
        x, y = a == value, b == value
        both, any_ = int((x & y).sum()), int((x | y).sum())
        distances = []
        for one, other in ((x, y), (y, x)):
            mask = sitk.GetImageFromArray(other.astype(np.uint8))
            mask.CopyInformation(truth)
            far = sitk.Abs(sitk.SignedMaurerDistanceMap(mask, False, False, True))
            contour = sitk.GetImageFromArray(one.astype(np.uint8))
            edge = sitk.GetArrayFromImage(sitk.BinaryContour(contour, True, 0, 1)) > 0
            distances.append(sitk.GetArrayFromImage(far)[edge])
        whole = np.concatenate(distances) if both else np.array([math.nan])
        classes.append({
            "value": int(value), "dice": 2 * both / (x.sum() + y.sum() or 1),
            "jaccard": both / (any_ or 1), "asd_mm": float(whole.mean()),
            "hd95_mm": float(np.percentile(whole, 95)),
        })  # fmt: skip
    for row in classes:
        row.update({k: None for k, v in row.items() if isinstance(v, float) and v != v})
    if request["errors"]:
        codes = ((a != b) * (1 * (a > 0) + 2 * (b > 0))).astype(np.uint8)
        image = sitk.GetImageFromArray(codes)
        image.CopyInformation(truth)
        sitk.WriteImage(image, request["errors"])
    say("result", id=request["id"], classes=classes)
