"""`ugmcl models`: which models there are, what their cards say, and whether they are intact."""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import InputError

NAME = "models"
HELP = "list, show or verify models"
DESCRIPTION = """\
Without further words, list the models that can be used: those that come with ugmcl, and those in
the folder that the environment variable UGMCL_MODELS names.

  show MODEL        print the model's card
  verify [MODEL...] read the weights and compare them with the card's checksum (default: all)"""
EPILOG = """\
examples:
  ugmcl models
  ugmcl models show la-lge-mri
  ugmcl models verify runs/mine/model"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One optional action and the models it is about."""
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "show", "verify"),
        help="what to do (default: list)",
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="name or folder of a model")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Do the action; 2 if a model is unusable."""
    if arguments.action == "show":
        return _show(arguments)
    if arguments.action == "verify":
        return _verify(arguments)
    if arguments.models:
        raise InputError("give `show` or `verify` before the name of a model")
    return _list(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from .. import model as models

    found = models.find_models()
    if arguments.json:
        print(json.dumps({"models": [models.describe(m) for m in found]}))
        return 0
    if not found:
        print("no model is installed; name a folder of models in UGMCL_MODELS", file=sys.stderr)
    for model in found:
        classes = ", ".join(c.name for c in model.card.classes)
        print(f"{model.name}: {classes} in {model.card.modality} ({model.folder})")
        print(f"    {model.card.description}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from .. import model as models

    if len(arguments.models) != 1:
        raise InputError("show needs one model, by name or folder")
    model = models.resolve(arguments.models[0])
    print(model.card.to_json(), end="")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from .. import model as models

    chosen = arguments.models or [m.folder for m in models.find_models()]
    if not chosen:
        raise InputError("there is no model to verify")
    failed = 0
    for name in chosen:
        try:
            model = models.resolve(name)
            models.verify(model)
        except InputError as error:
            failed += 1
            print(f"ugmcl: {error}", file=sys.stderr)
            if arguments.json:
                print(json.dumps({"model": str(name), "ok": False, "error": str(error)}))
        else:
            record = {"model": model.name, "ok": True, "sha256": model.card.sha256}
            print(
                json.dumps(record)
                if arguments.json
                else f"{model.name}: intact, sha256 {model.card.sha256}"
            )
    if not failed:
        return 0
    return 1 if failed < len(chosen) else 2
