"""The rooms of both packages: what imports what, how many entries, where the equations are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = "ugmcl_core"
MODULE = "UGMCLSegmentationLib"
PLACES = {CORE: ROOT / CORE, MODULE: ROOT / "UGMCLSegmentation" / MODULE}
# Each room imports only those before it; rooms of one line do not import each other.
ORDERS = {
    CORE: ("errors", "files", "nn", "data", "models", "inference", "evaluation", "methods",
           "training", "experiments worker", "remote", "cli"),
    MODULE: ("errors", "storage", "worker", "scene", "parameters", "panel", "console", "logic",
             "selftest", "widget"),
}  # fmt: skip
MOST_ENTRIES = 13
TORCH_FREE = (
    "errors", "files", "nn.devices", "data.limits", "data.pairing", "data.volume",
    "inference.settings", "models.card", "models.class_matching", "models.model", "models.store",
    "training.settings", "worker.protocol", "remote.handler", "remote.agent", "__main__",
)  # fmt: skip
EQUATIONS = {
    "Eq. 1": "nn.level_sets", "Eq. 2": "nn.losses", "Eq. 3": "nn.uncertainty",
    "Eq. 4": "nn.losses", "Eq. 5": "nn.level_sets", "Eq. 6": "nn.losses", "Eq. 7": "methods.ugmcl",
}  # fmt: skip


def modules(package: str) -> dict[str, ast.Module]:
    """The parsed modules of a package by their name in it, `__init__` left out."""
    place = PLACES[package]
    return {
        ".".join(path.relative_to(place).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
        for path in sorted(place.rglob("*.py"))
        if path.name != "__init__.py"
    }


def imported(package: str, name: str, tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """What a module imports, by its full name, and whether at once and not inside a function;
    without what type checkers alone import."""
    here = [package, *name.split(".")]
    parts = list(ast.walk(tree))
    checked = [p for p in parts if isinstance(p, ast.If) and "TYPE_CHECKING" in ast.dump(p.test)]
    functions = [p for p in parts if isinstance(p, ast.FunctionDef | ast.AsyncFunctionDef)]
    for_types = {id(node) for part in checked for node in ast.walk(part)}
    inner = {id(node) for part in functions for node in ast.walk(part)}
    for node in (node for node in parts if id(node) not in for_types):
        at_once = id(node) not in inner
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = here[: len(here) - node.level] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            yield from ((f"{source}.{alias.name}", at_once) for alias in node.names)


def room_of(package: str, name: str) -> int | None:
    """The place of a dotted name's room in the order; None outside of the package."""
    if not name.startswith(f"{package}."):
        return None
    room = name.split(".")[1]
    found = [n for n, rooms in enumerate(ORDERS[package]) if room in rooms.split()]
    return found[0] if found else None


@pytest.mark.parametrize("package", PLACES)
def test_rooms_import_only_those_before_them(package):
    upward = []
    for name, tree in modules(package).items():
        own = room_of(package, f"{package}.{name}")
        assert own is not None or name == "__main__", f"{name} is in no room"
        if own is None:
            continue
        room = name.split(".")[0]
        for other, _ in imported(package, name, tree):
            rank = room_of(package, other)
            is_beside = rank == own and other.split(".")[1] != room
            if rank is not None and (rank > own or is_beside):
                upward.append(f"{name} imports {other}")
    assert upward == []


@pytest.mark.parametrize("package", PLACES)
def test_folders_hold_few_entries(package):
    for folder in (PLACES[package], *(p for p in PLACES[package].rglob("*") if p.is_dir())):
        entries = [
            p for p in folder.iterdir()
            if (p.suffix == ".py" or (p.is_dir() and any(p.rglob("*.py"))))
            and p.name != "__init__.py"
        ]  # fmt: skip
        # the core's rooms with __main__, and a file for each command
        allowed = MOST_ENTRIES + (folder in (PLACES[CORE], PLACES[CORE] / "cli"))
        assert len(entries) <= allowed, f"{folder} holds {len(entries)} entries"


def test_torch_free_modules_stay_so():
    trees = modules(CORE)
    for start in TORCH_FREE:
        seen, rest = set(), [start]
        while rest:
            name = rest.pop()
            if name in seen:
                continue
            seen.add(name)
            for other, at_once in imported(CORE, name, trees[name]):
                assert not (at_once and other.split(".")[0] == "torch"), f"{start}: via {name}"
                inside = other.removeprefix(f"{CORE}.")
                for known in (inside, inside.rpartition(".")[0]):
                    if at_once and known in trees:
                        rest.append(known)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_each_equation_is_a_function_in_its_place(equation):
    tree = modules(CORE)[EQUATIONS[equation]]
    named = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and f", {equation}" in (ast.get_docstring(node) or "").split("\n\n")[0]
    ]
    assert named, f"nothing in {EQUATIONS[equation]} is {equation}"
