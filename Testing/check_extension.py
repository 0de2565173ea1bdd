"""What the Extensions Index and its reviewers ask of an extension, checked without a network.

    python Testing/check_extension.py [checkout]

Prints one line for each thing that is wrong; exit code 0 when nothing is.
"""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

NAME = "UGMCLSegmentation"
ENTRY = Path("Resources") / "ExtensionsIndex" / f"{NAME}.json"
LARGEST_CHECKOUT = 100e6  # bytes, with its history
ICON_SIDE = 128
TOPIC = "3d-slicer-extension"
AT_FILE_SCOPE = {"slicer", "vtk", "qt", "ctk", "SimpleITK", "numpy", "scipy", f"{NAME}Lib"}
AT_FILE_SCOPE |= set(sys.stdlib_module_names)
# of the extension's own package: these import the standard library alone
LIGHT = {
    f"ugmcl_core.{name}" for name in (
        "data.limits", "data.pairing", "errors", "files", "inference.settings", "models.card",
        "models.class_matching", "remote.connection", "training.settings",
    )
}  # fmt: skip

# slicer-extension-catalog-entry-schema-v1.0.1
SCHEMA = re.compile(
    r"https://raw\.githubusercontent\.com/Slicer/Slicer/main/Schemas/"
    r"slicer-extension-catalog-entry-schema-v1\.0\.1\.json#"
)
ENTRY_TYPES = {
    "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str,
    "build_dependencies": list, "build_subdirectory": str, "enabled": bool, "tier": int,
}  # fmt: skip
ENTRY_REQUIRED = ("$schema", "category", "scm_url")
METADATA = (
    "HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS", "KEYWORDS",
)  # fmt: skip
CMAKE = "3.28"  # as in the template of Slicer's Extension Wizard
README = {
    "a picture": r"!\[[^\]]+\]\([^)]+\.(?:png|jpg|gif)\)",
    "the steps of a tutorial": r"(?m)^1\. ",
    "the citation": r"(?i)\bcite\b",
    "the license": r"(?i)Apache License",
    "how to remove what is stored": r"(?i)\bremove\b",
    "that it is not for clinical use": r"(?i)not for clinical use",
}
ANSWERS = Path("docs") / "extension-index.md"
QUESTIONS = 11  # that a reviewer of the index puts; these words are in some of them
SUBJECTS = ("license", "downloaded", "uploaded", "stored", "remove", "installed", "at startup")


def metadata(root: Path) -> dict[str, str]:
    """The EXTENSION_ values of CMakeLists.txt, each a single quoted text on a line of its own."""
    text = (root / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"\n]*)"\)$', text, flags=re.MULTILINE))


def check_entry(root: Path) -> Iterator[str]:
    """The file for the index, against its schema and against CMakeLists.txt."""
    try:
        entry = json.loads((root / ENTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{ENTRY} cannot be read: {error}"
        return
    for key in ENTRY_REQUIRED:
        if key not in entry:
            yield f"{ENTRY} has no {key}"
    for key, value in entry.items():
        if key not in ENTRY_TYPES:
            yield f"{ENTRY}: {key} is not in the schema"
        elif type(value) is not ENTRY_TYPES[key]:
            yield f"{ENTRY}: {key} is not of type {ENTRY_TYPES[key].__name__}"
    if not SCHEMA.fullmatch(str(entry.get("$schema"))):
        yield f"{ENTRY}: $schema is not that of version 1.0.1"
    if entry.get("tier", 5) not in (1, 3, 5):
        yield f"{ENTRY}: tier is not 1, 3 or 5"
    if entry.get("scm_type", "git") != "git":
        yield f"{ENTRY}: scm_type is not git"
    depends = metadata(root).get("DEPENDS", "").split()
    if entry.get("build_dependencies", []) != depends:
        yield f"{ENTRY}: build_dependencies are not EXTENSION_DEPENDS ({' '.join(depends)})"
    address = re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+?)\.git", str(entry["scm_url"]))
    if not address:
        yield f"{ENTRY}: scm_url is not https://github.com/OWNER/NAME.git"
    elif address.group(2) != f"Slicer{NAME}":
        yield f"{ENTRY}: the repository's name is not Slicer{NAME}"
    elif metadata(root).get("HOMEPAGE", "").rstrip("/") != entry["scm_url"][: -len(".git")]:
        yield "EXTENSION_HOMEPAGE is not the repository of the index's entry"


def check_cmake(root: Path) -> Iterator[str]:
    """Names, texts, and that every picture is where its address says."""
    text = (root / "CMakeLists.txt").read_text(encoding="utf-8")
    if not re.search(rf"^project\({NAME}\)$", text, flags=re.MULTILINE):
        yield f"CMakeLists.txt: the project is not {NAME}"
    if f"cmake_minimum_required(VERSION {CMAKE})" not in text.splitlines():
        yield f"CMakeLists.txt: the minimum version of CMake is not {CMAKE}"
    values = metadata(root)
    for key in METADATA:
        if not values.get(key):
            yield f"CMakeLists.txt: EXTENSION_{key} is not one quoted text on its own line"
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", values.get("DESCRIPTION", "")) if s]
    if not 1 <= len(sentences) <= 2:
        yield f"EXTENSION_DESCRIPTION has {len(sentences)} sentences, not one or two"
    home = values.get("HOMEPAGE", "").replace("https://github.com/", "")
    pictures = [("ICONURL", u) for u in values.get("ICONURL", "").split()]
    pictures += [("SCREENSHOTURLS", u) for u in values.get("SCREENSHOTURLS", "").split()]
    for key, url in pictures:
        base = f"https://raw.githubusercontent.com/{home}/main/"
        if not url.startswith(base) or not url.endswith((".png", ".jpg", ".jpeg", ".gif")):
            yield f"EXTENSION_{key}: {url} is no picture under {base}"
        elif not (root / url[len(base) :]).is_file():
            yield f"EXTENSION_{key}: there is no {url[len(base) :]}"
        elif key == "ICONURL":
            yield from _check_icon(root, url[len(base) :])
    yield from _check_icon(root, f"{NAME}/Resources/Icons/{NAME}.png")


def _check_icon(root: Path, path: str) -> Iterator[str]:
    try:
        head = (root / path).read_bytes()[:24]
    except OSError as error:
        yield f"{path} cannot be read: {error.strerror}"
        return
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        yield f"{path} is no PNG"
        return
    width, height = struct.unpack(">II", head[16:24])
    if (width, height) != (ICON_SIDE, ICON_SIDE):
        yield f"{path} is {width}x{height}, not {ICON_SIDE}x{ICON_SIDE}"


def check_texts(root: Path) -> Iterator[str]:
    """License, README and the topics to give the repository."""
    license_file = root / "LICENSE.txt"
    if not license_file.is_file() or "Apache License" not in license_file.read_text("utf-8"):
        yield "LICENSE.txt does not hold the Apache License"
    readme = (root / "README.md").read_text(encoding="utf-8")
    for what, pattern in README.items():
        if not re.search(pattern, readme):
            yield f"README.md does not show {what}"
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", readme):
        if not (root / target).exists():
            yield f"README.md points to {target}, which does not exist"
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r"^keywords = \[([^\]]*)\]", project, flags=re.MULTILINE)
    topics = re.findall(r'"([^"]*)"', match.group(1)) if match else []
    if TOPIC not in topics:
        yield f"pyproject.toml: the keywords, which are the repository's topics, lack {TOPIC}"
    for topic in topics:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,49}", topic):
            yield f"pyproject.toml: {topic!r} cannot be a topic of a repository"


def check_answers(root: Path) -> Iterator[str]:
    """The page that answers the questions of a review."""
    if not (root / ANSWERS).is_file():
        yield f"{ANSWERS} does not exist"
        return
    text = (root / ANSWERS).read_text(encoding="utf-8")
    asked = re.findall(r"(?m)^\d+\. \*\*(.+?\?)\*\* \S", text)
    if len(asked) != QUESTIONS:
        yield f"{ANSWERS} answers {len(asked)} questions of a review, not {QUESTIONS}"
    for subject in SUBJECTS:
        if not any(subject in question for question in asked):
            yield f"{ANSWERS} has no question with the word {subject!r}"


def check_imports(root: Path) -> Iterator[str]:
    """Slicer imports every module at its start, before anything can be installed."""
    for path in sorted((root / NAME).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                isLight = any(name == n or name.startswith(f"{n}.") for n in LIGHT)
                if name.partition(".")[0] not in AT_FILE_SCOPE and not isLight:
                    where = f"{path.relative_to(root)}:{node.lineno}"
                    yield f"{where} imports {name} at file scope"


def check_size(root: Path) -> Iterator[str]:
    """Of the files that git tracks, and of its history."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    if not (listed := git("ls-files", "-z")):
        return  # not a checkout: an archive, say
    files = [root / name for name in listed.split("\0") if name]
    tracked = sum(p.lstat().st_size for p in files if p.is_symlink() or p.exists())
    # each object once: a clone may hold one both loose and packed, or in two packs
    history = int(git("rev-list", "--disk-usage", "--objects", "HEAD") or 0)
    if tracked + history > LARGEST_CHECKOUT:
        size = (tracked + history) / 1e6
        yield f"the checkout has {size:.0f} MB with its history, above {LARGEST_CHECKOUT / 1e6:g}"
    for path in files:
        if path.suffix.lower() in (".pt", ".pth", ".ckpt", ".pkl", ".pickle"):
            yield f"{path.relative_to(root)} may be a pickle"


CHECKS: tuple[Callable[[Path], Iterator[str]], ...] = (
    check_entry, check_cmake, check_texts, check_answers, check_imports, check_size,
)  # fmt: skip


def wrong(root: Path) -> list[str]:
    """All that is wrong with the checkout, one line each."""
    return [line for check in CHECKS for line in check(root)]


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    lines = wrong(root)
    print("\n".join(lines) if lines else f"{NAME}: ready for the Extensions Index")
    print("not checked here: that the addresses answer, and the repository's topics on GitHub")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
