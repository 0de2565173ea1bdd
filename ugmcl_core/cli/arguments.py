"""Arguments that several commands share, and the types that check them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..data import dataset_json
from ..data.pairing import Channels, read_list
from ..errors import InputError
from ..inference.settings import MOST_PASSES
from ..models.card import CLASS_COLORS, ClassInfo

if TYPE_CHECKING:
    from ..data.cases import Cohort
    from ..models.model import Model
    from ..remote.connection import Computer

DEFAULT_MODEL = "la-lge-mri"


def add_images(parser: argparse.ArgumentParser) -> None:
    """The images to work on, in any number, and which of them are channels of one case."""
    parser.set_defaults(several="images")
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image file (NRRD, NIfTI, MHA), folder of image files, or folder of a DICOM series; "
        "for a model of several images a case also these with commas, in the model's order",
    )
    add_channels(parser, "CASE_NAME of each of the model's channels, or CASE_0000, CASE_0001, ...")


def add_channels(parser: argparse.ArgumentParser, default: str) -> None:
    """--channels, as `channels_of` takes them."""
    parser.add_argument(
        "--channels",
        type=channels_of,
        metavar="NAME[=ENDING],...",
        help="the images of a case, by name, and how the names of their files end, as in "
        f"t1=_t1,flair=_flair (default: {default})",
    )


def channels_of(text: str) -> Channels:
    """The channels in ``text``: names, either all with an ending or none."""
    words = [word.strip().partition("=") for word in text.split(",")]
    names = tuple(name.strip() for name, _, _ in words)
    endings = tuple(ending.strip() for _, sign, ending in words if sign)
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r}: give distinct names, separated by commas")
    if endings and not (len(endings) == len(names) == len(set(endings)) and all(endings)):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give each channel an ending of its own, as in t1=_t1,flair=_flair, or none"
        )
    return Channels(names, endings)


def as_given(paths: Sequence[Path]) -> str | list[str]:
    """The images of a case, in the form of `--json`: a path, or the list of its channels'
    paths."""
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model, the bundled one by default."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_DIR",
        help="a model by name (see `ugmcl models`) or by folder (default: %(default)s)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, as `devices.resolve` takes it."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps (default: auto, the fastest available)",
    )


def add_on(parser: argparse.ArgumentParser) -> None:
    """--on and --on-command: another computer that does the work."""
    parser.add_argument(
        "--on",
        metavar="COMPUTER",
        help="do the work on this computer, over ssh: user@host or a name of ~/.ssh/config "
        "(see `ugmcl computers`)",
    )
    parser.add_argument(
        "--on-command",
        default="",
        metavar="COMMAND",
        help="with --on: what starts ugmcl there, such as 'module load python; ugmcl' (default: "
        "the private environment that `ugmcl computers install` makes)",
    )


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """--cluster."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="work on a Dask cluster: local:N (N processes here), slurm:N (N jobs of the queue "
        "that dask-jobqueue's own settings describe), or the address of a scheduler, such as "
        "tcp://head:8786; needs pip install 'ugmcl[cluster]'",
    )


def computer_of(arguments: argparse.Namespace) -> Computer | None:
    """The computer of --on, None for this one. InputError if it is not a valid name."""
    if arguments.on and getattr(arguments, "cluster", None):
        raise InputError("--on and --cluster exclude each other: give one of the two")
    if not arguments.on:
        if arguments.on_command:
            raise InputError("--on-command needs --on")
        return None
    from ..remote.connection import Computer

    return Computer(arguments.on, arguments.on_command)


def add_profile(parser: argparse.ArgumentParser) -> None:
    """--profile, as `profiles.profile_named` takes it."""
    parser.add_argument(
        "--profile",
        default="compact",
        help="compact (two CPU cores), coarse (quick comparisons) or paper (a GPU) "
        "(default: compact)",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """--set, as `decisions.overrides_of` takes it."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override one line of the plan, in the form that `ugmcl plan` shows; repeatable; "
        "without a plan only unlabeled=all",
    )


def add_iterations(
    parser: argparse.ArgumentParser, what: str = "the training", default: int | None = None
) -> None:
    """--iterations, the profile's own by default."""
    shown = "the profile's" if default is None else "%(default)s"
    parser.add_argument(
        "--iterations",
        type=count,
        default=default,
        metavar="N",
        help=f"length of {what} (default: {shown})",
    )


def add_minutes(parser: argparse.ArgumentParser) -> None:
    """--minutes, instead of --iterations."""
    parser.add_argument(
        "--minutes",
        type=minutes,
        default=0.0,
        metavar="M",
        help="length in time instead: as many iterations as M minutes allow, by a measured step, "
        "and others where the computer proves to be faster or slower",
    )


def add_classes(parser: argparse.ArgumentParser, default: str) -> None:
    """--classes, as `named_classes` takes them."""
    parser.add_argument(
        "--classes",
        metavar="NAME,...",
        help=f"names of the label values 1, 2, ... (default: {default})",
    )


@dataclass(frozen=True)
class Meaning:
    """What images and labels show, as the arguments or a ``dataset.json`` say it: ``classes`` and
    their label ``values``, both () where nothing does, the ``ignored`` label or None, and the
    ``modality`` as given, or as ``found``."""

    classes: tuple[ClassInfo, ...]
    values: tuple[int, ...]
    ignored: int | None
    modality: str
    found: str = ""

    def modality_of(self, cohort: Cohort) -> str:
        """The kind of its images; ``found`` is that of a case's first image."""
        return self.modality or (self.found if len(cohort.channels) == 1 else "")


def meaning_of(arguments: argparse.Namespace, fine_tuned: bool = False) -> Meaning:
    """By --classes, --ignore-label and --modality, otherwise by a ``dataset.json`` beside the
    images, which does not count where classes are given or a model is ``fine_tuned``."""
    given = arguments.classes
    dataset = None if given or fine_tuned else dataset_json.read_of(arguments.images)
    ignored, modality = arguments.ignore_label, arguments.modality
    if dataset is None:
        return Meaning(named_classes(given) if given else (), (), ignored, modality)
    values, names = zip(*dataset.classes, strict=True) if dataset.classes else ((), ())
    ignored = dataset.ignore if ignored is None else ignored
    return Meaning(_numbered(names), values, ignored, modality, dataset.modality)


def named_classes(text: str) -> tuple[ClassInfo, ...]:
    """The classes 1, 2, ... with the names in ``text``; InputError for equal or empty names."""
    names = [w.strip() for w in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"--classes {text!r}: give distinct names, separated by commas")
    return _numbered(names)


def _numbered(names: Sequence[str]) -> tuple[ClassInfo, ...]:
    return tuple(
        ClassInfo(n, name, CLASS_COLORS[(n - 1) % len(CLASS_COLORS)], largest_component=None)
        for n, name in enumerate(names, 1)
    )


def add_ignore_label(parser: argparse.ArgumentParser) -> None:
    """--ignore-label."""
    parser.add_argument(
        "--ignore-label",
        type=count,
        metavar="N",
        help="label value of voxels that nobody annotated: they are not learned from",
    )


def add_seed(parser: argparse.ArgumentParser, default: int) -> None:
    """--seed of a training."""
    parser.add_argument(
        "--seed",
        type=whole,
        default=default,
        metavar="S",
        help="same seed, same machine, same model on a CPU (default: %(default)s)",
    )


def add_labeled_list(parser: argparse.ArgumentParser, text: str) -> None:
    """--labeled-list, also in the British spelling of earlier versions."""
    parser.add_argument("--labeled-list", metavar="FILE", help=text)
    parser.add_argument("--labelled-list", dest="labeled_list", help=argparse.SUPPRESS)


def add_cohort(parser: argparse.ArgumentParser) -> None:
    """Which of the cases in the folders are used, and how."""
    add_labeled_list(parser, "use only these labels, one name a line; the others are unlabeled")
    parser.add_argument(
        "--label-geometry",
        choices=("file", "image"),
        default="file",
        help="where labels lie: by their own header, or, if it was lost, voxel by voxel on their "
        "image (default: file)",
    )
    parser.add_argument(
        "--empty-labels",
        action="store_true",
        help="a label without any structure is meant so: nothing is there to be found",
    )
    parser.add_argument(
        "--exclude-list",
        metavar="FILE",
        help="leave these cases out altogether, such as those for testing",
    )
    parser.add_argument(
        "--holdout-list",
        metavar="FILE",
        help="never train on these labeled cases, but report their Dice",
    )


def lists_of(arguments: argparse.Namespace) -> list[list[str] | None]:
    """The names in the lists of `add_cohort`: the labeled, the excluded and the hold-out cases."""
    paths = (arguments.labeled_list, arguments.exclude_list, arguments.holdout_list)
    return [read_list(path) if path else None for path in paths]


def cohort_of(
    arguments: argparse.Namespace,
    command: str,
    lists: Sequence[list[str] | None],
    base: Model | None = None,
) -> Cohort:
    """The cases in the folders --images and --labels, or of `ugmcl plan`; ``lists`` are those of
    `lists_of`."""
    from ..data.cases import find_cohort
    from .progress import print_line

    channels = arguments.channels
    if channels is None and base is not None and len(base.card.channels) > 1:
        channels = Channels(base.card.channels)
    cohort = find_cohort(
        arguments.images,
        arguments.labels,
        lists[0],
        lists[1] or (),
        lists[2] or (),
        notice=lambda line: print_line(f"{command}: {line}", sys.stderr),
        channels=channels,
    )
    if arguments.label_geometry == "image":
        cohort = cohort.with_changes(label_on_image=True)
    if arguments.empty_labels:
        cohort = cohort.with_changes(may_be_empty=True)
    return cohort


def whole(text: str) -> int:
    """A seed: a whole number from 0."""
    if not text.isascii() or not text.isdigit() or int(text) > 2**31 - 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return int(text)


def minutes(text: str) -> float:
    """A time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes, such as 25")
    return value


def count(text: str) -> int:
    """A whole number from 1."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return number


def passes(text: str, fewest: int = 0) -> int:
    """A whole number from ``fewest`` to MOST_PASSES."""
    if not text.isascii() or not text.isdigit() or not fewest <= int(text) <= MOST_PASSES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number from {fewest} to {MOST_PASSES}"
        )
    return int(text)


def some_passes(text: str) -> int:
    """A whole number from 1 to MOST_PASSES."""
    return passes(text, fewest=1)


def words(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(w.strip() for w in text.split(",") if w.strip())
