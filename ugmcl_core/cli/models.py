"""`ugmcl models`: list, verify, import, export, rename and remove models."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError

NAME = "models"
HELP = "list, show, verify, import, export, rename or remove models"
DESCRIPTION = """\
Without further words, list the models that can be used: those that come with ugmcl, and those in
the folders that the environment variable UGMCL_MODELS names.

  show MODEL           print the model's card
  verify [MODEL...]    read the weights and compare them with the card's checksum (default: all)
  known                list the models of the indexes (index.json) that can be imported by name
  import SOURCE        copy a model folder, a bundle of MONAI or the results of nnU-Net v2
                       (folders; they segment and cannot be trained), a repository of Hugging
                       Face with one of these (hf:OWNER/NAME@REVISION), a zip of a model, an
                       https address of such a zip, or a known model into the first folder of
                       UGMCL_MODELS, or that of --to
  export MODEL TARGET  write a copy: a folder, a .zip or .onnx file, or a MONAI bundle (--monai)
  rename MODEL NAME    give an imported model another name
  remove MODEL...      delete imported models, broken ones too"""
EPILOG = """\
examples:
  ugmcl models
  ugmcl models show la-lge-mri
  ugmcl models verify runs/mine/model
  ugmcl models import https://example.org/model.zip --sha256 3a7b...
  ugmcl models import hf:owner/name@v1.0
  ugmcl models export la-lge-mri la-lge-mri.zip"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action and its models, in one list of words, and options."""
    parser.set_defaults(several="words")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="ACTION MODEL",
        help="what to do (default: list), and what it needs, above",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.add_argument("--to", metavar="DIR", help="import: the folder of models to import into")
    parser.add_argument("--name", default="", help="import: the name to give to the model")
    parser.add_argument(
        "--sha256",
        default="",
        metavar="HEX",
        help="import: of the zip (an address needs it), or of the weights on Hugging Face",
    )
    parser.add_argument("--monai", action="store_true", help="export: as a MONAI bundle")


def run(arguments: argparse.Namespace) -> int:
    """Do the action; 2 if a model is unusable."""
    action, *arguments.words = arguments.words or ["list"]
    if action not in _ACTIONS:
        raise InputError(f"models: there is no action {action!r}; known are {', '.join(_ACTIONS)}")
    return _ACTIONS[action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from ..models.model import broken_models, describe, find_models

    if arguments.words:
        raise InputError("give `show` or `verify` before the name of a model")
    found = find_models()
    for error in broken_models().values():
        print(f"ugmcl: {error}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"models": [describe(m) for m in found]}))
        return 0
    if not found:
        print("no model is installed; name a folder of models in UGMCL_MODELS", file=sys.stderr)
    for model in found:
        classes = ", ".join(c.name for c in model.card.classes)
        print(f"{model.name}: {classes} in {model.card.modality} ({model.folder})")
        print(f"    {model.card.description}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from ..models.model import resolve

    if len(arguments.words) != 1:
        raise InputError("show needs one model, by name or folder")
    model = resolve(arguments.words[0])
    print(model.card.to_json(), end="")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from ..models.model import broken_models, find_models, resolve, verify

    chosen = arguments.words or [*(m.folder for m in find_models()), *broken_models()]
    if not chosen:
        raise InputError("there is no model to verify; import one first")
    failed = 0
    for name in chosen:
        try:
            model = resolve(name)
            verify(model)
        except InputError as error:
            failed += 1
            print(f"ugmcl: {error}", file=sys.stderr)
            if arguments.json:
                print(json.dumps({"model": str(name), "ok": False, "error": str(error)}))
        else:
            record = {"model": model.name, "ok": True, "sha256": model.card.sha256}
            _print(arguments, record, f"{model.name}: intact, sha256 {model.card.sha256}")
    if not failed:
        return 0
    return 1 if failed < len(chosen) else 2


def _known(arguments: argparse.Namespace) -> int:
    from ..models import store

    found = store.known_models()
    if arguments.json:
        print(json.dumps({"models": [vars(entry) for entry in found]}))
    elif not found:
        print("no index names a model", file=sys.stderr)
    else:
        for entry in found:
            print(f"{entry.name}: {entry.description} ({entry.bytes / 1e6:.1f} MB, {entry.url})")
            print(f"    {entry.license}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from ..models import store

    if len(arguments.words) != 1:
        raise InputError(
            "import needs one source: a folder, a zip, an address, hf:OWNER/NAME or a known model"
        )
    model = store.add(
        arguments.words[0], _place(arguments.to), arguments.name, arguments.sha256,
        _progress(arguments.json),
    )  # fmt: skip
    record = {"model": model.name, "folder": str(model.folder)}
    return _print(arguments, record, f"{model.name}: imported to {model.folder}")


def _print(arguments: argparse.Namespace, record: dict[str, Any], text: str) -> int:
    """Print what was done, as JSON or as text; the exit code."""
    print(json.dumps(record) if arguments.json else text)
    return 0


def _place(given: str | None) -> Path:
    named = [p for p in os.environ.get("UGMCL_MODELS", "").split(os.pathsep) if p.strip()]
    if given is None and not named:
        raise InputError("there is no folder to import to: name one in UGMCL_MODELS, or give --to")
    return Path(given if given is not None else named[0]).expanduser().resolve()


def _progress(as_json: bool) -> Callable[[int, int | None], None]:
    """Prints each new percent, so that the output stays short."""
    last = -1

    def show(done: int, total: int | None) -> None:
        nonlocal last
        part = 100 * done // total if total else done >> 20
        if part == last:
            return
        last = part
        if as_json:
            print(json.dumps({"bytes": done, "total": total}), flush=True)
        elif sys.stderr.isatty():
            of = f" of {total / 1e6:.1f}" if total else ""
            print(f"\r{done / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)
            if total and done >= total:
                print(file=sys.stderr)

    return show


def _export(arguments: argparse.Namespace) -> int:
    from ..models import store
    from ..models.model import resolve

    if len(arguments.words) != 2:
        raise InputError("export needs a model and the file or folder to write")
    model, target = resolve(arguments.words[0]), arguments.words[1]
    if arguments.monai:
        from ..models import monai

        written = monai.export(model, target)
    elif target.lower().endswith(".onnx"):
        from ..models import onnx

        written = onnx.export(model, target)
    else:
        written = store.export(model, target)
    record = {"model": model.name, "written": str(written)}
    return _print(arguments, record, f"{model.name}: written to {written}")


def _rename(arguments: argparse.Namespace) -> int:
    from ..models import store

    if len(arguments.words) != 2:
        raise InputError("rename needs a model and its new name")
    model = store.rename(store.to_change(arguments.words[0]), arguments.words[1])
    print(f"{model.name}: in {model.folder}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from ..models import store

    if not arguments.words:
        raise InputError("remove needs the names of models")
    folders = [store.to_remove(name) for name in arguments.words]
    for name, folder in zip(arguments.words, folders, strict=True):
        store.remove(folder)
        print(f"{name}: removed from {folder}")
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "verify": _verify,
    "known": _known,
    "import": _import,
    "export": _export,
    "rename": _rename,
    "remove": _remove,
}
