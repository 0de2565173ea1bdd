"""Texts: those of the panel can be translated, and all of the repository are in US spelling."""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "UGMCLSegmentation"
SOURCES = sorted(MODULE.rglob("*.py"))

NAMES = {  # that Slicer, a standard or a person gives, and patterns of other programs' messages
    "Binary labelmap", "Closed surface", "Planar contour",
    "UGMCL Segmentation", "UGMCL Segmentation contributors",
    "Segmentation category and type - 3D Slicer General Anatomy list",
    "~Anatomic codes - DICOM master list~^^~^^", "Left atrium",
}  # fmt: skip
PATTERNS = ("Numpy is not available|", "No module named '?(", "DLL load failed|")


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and text of each literal that reads like words and is not given to _() or
    translate(); docstrings and patterns left out."""
    skipped = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # docstrings, also those of constants
            skipped |= {
                id(n.value) for n in body if isinstance(n, ast.Expr)
                and isinstance(n.value, ast.Constant)
            }  # fmt: skip
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "translate"):
            skipped |= {id(n) for n in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            reads = re.match(r"\W*[A-Z][a-z]* [A-Za-z]+", node.value)
            is_known = node.value in NAMES or node.value.startswith(PATTERNS)
            if id(node) not in skipped and reads and not is_known:
                yield node.lineno, node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_every_text_of_the_panel_can_be_translated(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [f"{path.name}:{line}: {text}" for line, text in texts(tree)] == []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "_":
            # what is put together first is no entry of a list of translations
            (argument,) = node.args
            assert isinstance(argument, ast.Constant), f"{path.name}:{node.lineno}"


def test_no_text_of_a_ui_file_is_kept_from_translation():
    files = sorted(MODULE.rglob("*.ui"))
    assert len(files) == 7
    for path in files:
        for element in ElementTree.parse(path).iter("string"):
            is_style = (element.text or "").startswith("color:")
            assert element.get("notr") != "true" or is_style, f"{path.name}: {element.text}"


def test_labels_show_names_as_they_are():
    """A name in them, as of an imported model, may look like HTML; the plan is made of it."""
    found = {}
    for path in sorted(MODULE.rglob("*.ui")):
        for label in ElementTree.parse(path).iterfind(".//widget[@class='QLabel']"):
            properties = {p.get("name"): "".join(p.itertext()).strip() for p in label}
            if not properties.get("text"):  # the program sets it
                found[label.get("name")] = properties.get("textFormat")
    assert found.pop("planLabel") == "Qt::RichText"
    assert len(found) > 20 and set(found.values()) == {"Qt::PlainText"}, found


BRITISH = re.compile(
    r"\b(\w*labell(?:ed|ing)|(?:cancell|travell)(?:ed|ing)|colou?r(?<=our)\w*|centred?|grey|licence|neighbour\w*|behaviour"
    r"|favour\w*|\w*(?:normal|optim|initial|visual|organ|recogn|minim|maxim|summar)is(?:e[ds]?|ing"
    r"|ation)|analys(?:e[ds]?|ing)|modell(?:ed|ing)|artefacts?|catalogue|dialogue|programme|metre)\b",
    re.IGNORECASE,
)


# what scenes, lists and scripts of version 0.1 hold, and what users write: read, and never shown
FORMER = {"labelled", "unlabelled", "--labelled-list"}


def prose(path: Path) -> Iterator[str]:
    """What somebody reads: a page but its code; a panel's texts; all words of a program: its
    identifiers, comments, docstrings, messages and options."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ui":
        yield from (e.text or "" for e in ElementTree.fromstring(text).iter("string"))
    elif path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING and token.string.strip("\"'") in FORMER:
                continue
            if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT, FSTRING):
                yield re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", token.string)
    elif path.name == "CMakeLists.txt":
        yield from re.findall(r'EXTENSION_DESCRIPTION "([^"]*)"', text)
    else:
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        yield re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)


FSTRING = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)  # from Python 3.12
CORE = sorted((ROOT / "ugmcl_core").rglob("*.py"))
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CITATION.cff", "CMakeLists.txt")]
PAGES += [*sorted((ROOT / "docs").glob("*.md")), *sorted(MODULE.rglob("*.ui")), *SOURCES, *CORE]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_spelling_is_that_of_the_us(path):
    found = [m.group() for text in prose(path) for m in BRITISH.finditer(text)]
    assert found == []


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The --help of a parser and of all commands below it."""
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from helps(below)


def test_the_help_of_every_command_is_in_us_spelling():
    from ugmcl_core.__main__ import build_parser

    shown = list(helps(build_parser()))
    assert len(shown) > 8
    assert [m.group() for text in shown for m in BRITISH.finditer(text)] == []


def anchors(path: Path) -> set[str]:
    """The headings of a page, as links name them."""
    heads = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", [p for p in PAGES if p.suffix == ".md"], ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _hash, anchor = target.partition("#")
        page = path.parent / name if name else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target
