"""The messages of all `InputError`s: the patterns in the source, and what the tests raise."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = "UGMCL_RECORD_MESSAGES"
"""Environment variable: a file to which each message that a test raises is appended."""


@dataclass(frozen=True)
class Site:
    """Where an InputError is raised, and its text with ``{}`` for what is filled in."""

    module: str
    pattern: str

    @property
    def words(self) -> str:
        """The text without what is filled in."""
        return self.pattern.replace("{}", "")

    def matches(self, message: str) -> bool:
        parts = (re.escape(part) for part in self.pattern.split("{}"))
        return re.fullmatch(".*".join(parts), message, re.S) is not None


def sites() -> list[Site]:
    """All that have words of their own, in the order of the source."""
    found = []
    for path in sorted((ROOT / "ugmcl_core").rglob("*.py")):
        module = path.relative_to(ROOT / "ugmcl_core").with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                for pattern in _patterns(node.args[0]):
                    site = Site(module, pattern)
                    if re.search("[a-z]{2}", site.words) and site not in found:
                        found.append(site)
    return found


def _patterns(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can have; an unknown part is ``{}``."""
    if isinstance(node, ast.Constant):
        yield str(node.value).replace("{}", "{ }")
    elif isinstance(node, ast.IfExp):
        yield from _patterns(node.body)
        yield from _patterns(node.orelse)
    elif isinstance(node, ast.BinOp):
        for left in _patterns(node.left):
            for right in _patterns(node.right):
                yield left + right
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    else:
        yield "{}"


def record() -> None:
    """Append each message to the file that RECORD names, if it names one."""
    place = os.environ.get(RECORD)
    if not place:
        return
    from ugmcl_core import errors

    def init(self: errors.InputError, *arguments: object) -> None:
        ValueError.__init__(self, *arguments)
        with suppress(OSError), open(place, "a", encoding="utf-8") as file:
            file.write(" ".join(str(arguments[0]).split()) + "\n")

    errors.InputError.__init__ = init  # type: ignore[method-assign]


def listed(told: list[str]) -> str:
    """The list of docs/messages.md: by part of the program, an example of each site, among what
    tests raised; InputError's wrappers, which add a file's name to another message, excepted."""
    lines = [HEAD]
    room = ""
    for site in sites():
        fitting = [t for t in told if site.matches(t)]
        if not fitting:
            print(f"no test raises it: {site.module}: {site.pattern}", file=sys.stderr)
            continue
        if site.module.split("/")[0] != room:
            room = site.module.split("/")[0]
            lines.append(f"\n## {room}\n")
        example = f"- {min(fitting, key=len)}"
        if example not in lines:
            lines.append(example)
    return "\n".join(lines) + "\n"


def shortened(message: str) -> str:
    """Without the folders in which tests make their files."""
    folder = r"/[^\s'\",;:()]*pytest-of-[^/\s]+/pytest-\d+/[^/\s'\",;:()]+/?"
    text = re.sub(folder, "", message)
    text = re.sub(r"\.writing-\w+/", "", text.replace(f"{ROOT}/", ""))
    return re.sub(r"^(: | )", "folder: ", text)


HEAD = """\
# Messages

Every message with which the program refuses input, with an example of each. Written by the tests:

    UGMCL_RECORD_MESSAGES=messages.txt make test-all
    python Testing/core/message_sites.py messages.txt

In the panel, the same messages stand under the buttons, beginning with a capital."""


if __name__ == "__main__":
    recorded = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    text = listed(sorted({shortened(line) for line in recorded}))
    (ROOT / "docs" / "messages.md").write_text(text, encoding="utf-8")
