"""The sides of the benchmark table's rows: what is measured, of this project and of others.

A side is a function that prepares and returns a measured function. What that returns, if a number,
is the time in seconds, else it is timed from outside. Every side runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PAPER_PATCH, COMPACT_PATCH = (112, 112, 80), (96, 80, 48)
LA_SHAPE, LARGE_SHAPE = (190, 142, 88), (640, 640, 88)
SPACING = (0.625, 0.625, 0.625)
SEED = 0
DEVICE = os.environ.get("UGMCL_BENCH_DEVICE", "cpu")  # of the network; set by bench.py --device

Measured = Callable[[], float | None]
Side = Callable[[], Measured]


def volume_array(shape: tuple[int, int, int]) -> np.ndarray:
    """An image of that shape, int16."""
    return np.random.default_rng(SEED).integers(0, 800, shape, np.int16)


def body(shape: tuple[int, int, int]) -> np.ndarray:
    """A mask of two joined balls."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    balls = [sum((a - c) ** 2 for a in axes) < 0.25 for c in (-0.2, 0.25)]
    return balls[0] | balls[1]


# The network and the training step


def reference_network() -> Any:
    from reference import plain

    return plain(own_network())


def own_network() -> Any:
    import torch

    from ugmcl_core.nn.network import DualTaskVNet

    torch.manual_seed(SEED)
    return DualTaskVNet()


def forward_reference() -> Measured:
    import torch

    network = reference_network().eval().to(DEVICE)
    image = torch.randn(1, 1, *PAPER_PATCH, device=DEVICE)

    def measured() -> None:
        with torch.no_grad():
            network(image)

    return measured


def forward_ours() -> Measured:
    import torch

    from ugmcl_core.nn import devices
    from ugmcl_core.nn.network import for_inference

    devices.prepare_cpu()
    layout = torch.channels_last_3d
    network = for_inference(own_network().to(DEVICE, memory_format=layout))
    image = torch.randn(1, 1, *PAPER_PATCH, device=DEVICE).contiguous(memory_format=layout)

    def measured() -> None:
        with torch.inference_mode(), devices.autocast(image.device):
            network(image)

    return measured


def reference_training(patch: tuple[int, int, int]) -> Any:
    from reference import Training

    shape = LA_SHAPE if patch == PAPER_PATCH else tuple(n // 2 + 10 for n in LA_SHAPE)
    image = volume_array(shape).astype(np.float32) / 800
    volumes = [(image, body(shape).astype(np.uint8))]
    networks = (reference_network().to(DEVICE) for _ in range(2))
    return Training(*networks, volumes, patch)


def step_reference(kind: str, patch: tuple[int, int, int]) -> Measured:
    training = reference_training(patch)
    return getattr(training, f"{kind}_step")


def step_ours(method_name: str, profile_name: str, **options: Any) -> Measured:
    """Steps of the real loop, the next batch being made meanwhile as in training."""
    from ugmcl_core.data import phantoms
    from ugmcl_core.data.cases import find_cohort
    from ugmcl_core.methods import METHODS
    from ugmcl_core.nn import devices
    from ugmcl_core.nn.schedules import Step
    from ugmcl_core.training import profiles
    from ugmcl_core.training.task import TrainingSettings, TrainingTask
    from ugmcl_core.training.trainer import Trainer

    devices.prepare_cpu()
    folder = Path(tempfile.mkdtemp(prefix="ugmcl-bench-"))
    names = phantoms.write_cohort(folder, 3, SEED, LA_SHAPE, SPACING)
    cohort = find_cohort(folder / "images", folder / "labels", names[:2])
    method = METHODS[method_name](**options)
    profile = profiles.PROFILES[profile_name]
    profile = replace(profile, warmup=0)
    task = TrainingTask(cohort, method, profile, folder, TrainingSettings(device=DEVICE))
    run = Trainer(task, devices.resolve(DEVICE))
    steps = [Step(n, 1000) for n in range(500, 1000)]
    pairs = zip(steps, run.batches(steps), strict=True)

    def measured() -> None:
        run.step(*next(pairs))

    return measured


def distance_reference() -> Measured:
    """Like `distance_ours`, of a mask as it lies in memory when read from a file."""
    from scipy.ndimage import distance_transform_edt

    mask = np.asfortranarray(body(LA_SHAPE))

    def measured() -> None:
        distance_transform_edt(~mask, SPACING) - distance_transform_edt(mask, SPACING)

    return measured


def distance_ours() -> Measured:
    from ugmcl_core.nn.level_sets import signed_distance

    return partial(signed_distance, np.asfortranarray(body(LA_SHAPE)), SPACING)


def loader_reference() -> Measured:
    from reference import crop_distance, load_crop

    rng, image, mask = np.random.default_rng(SEED), volume_array(LA_SHAPE), body(LA_SHAPE)
    image = image.astype(np.float32)

    def measured() -> None:
        for n in range(4):
            _, found = load_crop(image, mask, PAPER_PATCH, rng)
            if n < 2:
                crop_distance(found)

    return measured


def loader_ours(profile_name: str) -> Measured:
    from ugmcl_core.data import phantoms
    from ugmcl_core.data.batches import BatchSource, make_batch
    from ugmcl_core.data.cases import find_cohort, prepare_cases
    from ugmcl_core.nn.schedules import Step
    from ugmcl_core.training import profiles

    folder = Path(tempfile.mkdtemp(prefix="ugmcl-bench-"))
    names = phantoms.write_cohort(folder, 3, SEED, LA_SHAPE, SPACING)
    cohort = find_cohort(folder / "images", folder / "labels", names[:2])
    profile = profiles.PROFILES[profile_name]
    groups = [
        prepare_cases(group, profile.representation, cache=folder / "cache")
        for group in (cohort.labeled, cohort.unlabeled)
    ]
    source = BatchSource(*groups, profile.batch, profile.representation, SEED)
    count = iter(range(10**6))

    def measured() -> None:
        make_batch(source, Step(next(count), 10**6))

    return measured


# Segmentation


def paper_model() -> Any:
    """A model on the paper's grid with the weights of the bundled model: what it finds there is of
    no use, but it is one place and not scattered noise, which would cost all that follows the
    network more than any structure does."""
    from ugmcl_core.models.model import resolve, save_model
    from ugmcl_core.training import profiles

    profile, bundled = profiles.PAPER, resolve("la-lge-mri")
    card = replace(
        bundled.card,
        name="paper",
        spacing=profile.representation.spacing,
        patch=PAPER_PATCH,
        mirror_axes=(),
    )
    folder = Path(tempfile.mkdtemp(prefix="ugmcl-bench-")) / "paper"
    return save_model(folder, card, bundled.load_weights())


def scan(shape: tuple[int, int, int]) -> Any:
    """A made-up scan that shows the structure; beyond the size of a heart again and again."""
    from ugmcl_core.data.phantoms import phantom
    from ugmcl_core.data.volume import Grid, Volume

    heart = phantom(0, LA_SHAPE, SPACING)[0].array
    more = [(0, n - m) for n, m in zip(shape, LA_SHAPE, strict=True)]
    return Volume(np.pad(heart, more, mode="wrap"), Grid(shape, SPACING))


def paper_network() -> Any:
    """The network of `paper_model`, plain and in the memory layout that networks come with."""
    import torch
    from reference import plain

    from ugmcl_core.models.network import build_network

    network = plain(build_network(paper_model(), torch.device(DEVICE)))
    return network.to(memory_format=torch.contiguous_format)


def network_image(shape: tuple[int, int, int]) -> Any:
    """`scan` as the network takes it, (1, *shape)."""
    from ugmcl_core.data.preprocessing import Normalization, prepare
    from ugmcl_core.models.model import resolve

    normalization = Normalization(**resolve("la-lge-mri").card.normalization)
    return prepare(scan(shape), SPACING, normalization).image


def segment_ours(shape: tuple[int, int, int], passes: int, bundled: bool = False) -> Measured:
    """All of it: preparing, the network, bringing the results back onto the input's grid."""
    from ugmcl_core.inference.segmenter import Segmenter
    from ugmcl_core.inference.settings import SegmentSettings
    from ugmcl_core.models.model import resolve

    segmenter = Segmenter(resolve("la-lge-mri") if bundled else paper_model(), DEVICE)
    volume = scan(shape)
    # keeping all components leaves out the search for one: every window is computed
    settings = SegmentSettings(passes=passes, all_components=True)

    def measured() -> None:
        segmenter.segment(volume, settings)

    return measured


def segment_stack() -> Measured:
    """A generated short-axis stack of ten thick slices with three classes, as its planned network
    segments it. A few iterations are enough for classes to be found, which is all that counts."""
    sys.path.insert(0, str(ROOT / "Testing" / "core"))
    import torch
    from structure_samples import write_family

    from ugmcl_core.data.cases import find_cohort
    from ugmcl_core.data.volume import read
    from ugmcl_core.inference.segmenter import Segmenter
    from ugmcl_core.inference.settings import SegmentSettings
    from ugmcl_core.methods import METHODS
    from ugmcl_core.training.planning.plan import plan_cohort
    from ugmcl_core.training.profiles import with_iterations
    from ugmcl_core.training.train import TrainingSettings, train

    folder = write_family(Path(tempfile.mkdtemp(prefix="ugmcl-bench-")), "ventricles", 8)
    cohort = find_cohort(folder / "images", folder / "labels")
    plan = plan_cohort(cohort, (), torch.device("cpu"), ["coarse=0"])
    profile = with_iterations(plan.profile, 80)
    settings = TrainingSettings(SEED, DEVICE)
    model = train(cohort, METHODS["dual-task"](), profile, folder / "run", settings)
    segmenter = Segmenter(model, DEVICE)
    volume = read(sorted((folder / "images").iterdir())[0])

    def measured() -> None:
        segmenter.segment(volume, SegmentSettings(passes=8))

    return measured


def doubt_ours() -> Measured:
    """What the bundled model shows of its own errors, of a prediction that is there."""
    import torch

    from ugmcl_core.inference.doubt import doubt_of
    from ugmcl_core.inference.sliding_window import Prediction
    from ugmcl_core.models.model import resolve

    card = resolve("la-lge-mri").card
    shape = tuple(round(n * s / c)
                  for n, s, c in zip(LA_SHAPE, SPACING, card.spacing, strict=True))  # fmt: skip
    found = body(shape)
    mask = torch.from_numpy(found).float()[None, None]
    p = torch.nn.functional.avg_pool3d(mask, 5, 1, padding=2)[0]
    prediction = Prediction(p, None, p)

    def measured() -> None:
        doubt_of(prediction, found, card.spacing, card.calibration).bound(0)

    return measured


def segment_reference(shape: tuple[int, int, int], passes: int) -> Measured:
    """The network part alone; the time of one window times their number."""
    from reference import corners, segment

    network, image = paper_network(), network_image(shape).numpy()[0]
    count = len(corners(shape, PAPER_PATCH))

    def measured() -> float:
        began = time.perf_counter()
        segment(network, image, PAPER_PATCH, passes, most=1)
        return (time.perf_counter() - began) * count

    return measured


def segment_monai(shape: tuple[int, int, int]) -> Measured:
    """MONAI's sliding window as its users call it, with the same network in bfloat16."""
    import torch
    from monai.inferers import sliding_window_inference

    from ugmcl_core.nn import devices

    network, image = paper_network(), network_image(shape)[None].to(DEVICE)

    def measured() -> None:
        with torch.inference_mode(), devices.autocast(image.device):
            sliding_window_inference(
                image, PAPER_PATCH, 1, lambda x: network(x).logits, overlap=0.5, mode="gaussian"
            )

    return measured


# What a user waits for


def import_ours() -> Measured:
    """`import ugmcl_core` in a fresh interpreter, without the interpreter's own start."""
    code = (
        "import time; t = time.perf_counter(); import ugmcl_core; print(time.perf_counter() - t)"
    )

    def measured() -> float:
        run = [sys.executable, "-c", code]
        return float(subprocess.run(run, cwd=ROOT, capture_output=True, check=True).stdout)

    return measured


def cold_segment() -> Measured:
    """`ugmcl segment` from the start of the process to its end, with the bundled model."""
    from ugmcl_core.data.volume import write

    folder = Path(tempfile.mkdtemp(prefix="ugmcl-bench-"))
    write(folder / "scan.nrrd", scan(LA_SHAPE))
    command = [sys.executable, "-m", "ugmcl_core", "segment", str(folder / "scan.nrrd")]
    command += ["--output", str(folder / "results")]

    def measured() -> None:
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)

    return measured


def panel_setup() -> Measured:
    """The module's import and setup() in the headless Slicer."""
    code = "import sys; sys.path.insert(0, 'Testing/slicer'); import clicks; clicks.setup()"

    def measured() -> float:
        return float(_in_slicer(code)[-1])

    return measured


def _in_slicer(code: str) -> list[str]:
    code = code.replace("import clicks", "sys.path.insert(0, 'Testing/benchmarks'); import clicks")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout.split()


def click(paper: bool = False, cold: bool = False) -> Measured:
    """From the click on Segment to the first slice picture that shows the overlay; with the
    bundled model, or one of the paper's profile. Unless ``cold`` the worker is up and the model is
    loaded, from the click before."""
    import clicks

    return clicks.click(LA_SHAPE, SPACING, paper_model().folder if paper else None, cold)
