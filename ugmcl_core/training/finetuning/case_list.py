"""Case lists: JSON files with the volumes that a fine-tuning learns from, and their roles.

The layout is in docs/architecture.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...data.cases import Case, Cohort
from ...data.limits import LARGEST_VALUE
from ...errors import InputError
from ...models.card import ClassInfo, class_info
from ...models.class_matching import match_classes

_FORMER_ROLES = {"labelled": "labeled", "unlabelled": "unlabeled"}  # as lists up to 0.1 have them
ROLES = ("labeled", "unlabeled", "holdout")
_KEYS = {"name", "role", "image", "label", "label_geometry", "empty"}


@dataclass(frozen=True)
class CaseList:
    """What a case list holds: ``classes`` with the values that they have in its labels, or None
    for those of the base model; ``ignore``, the value of voxels that nobody annotated, or None;
    ``named``: whether it names the channels of the cohort."""

    cohort: Cohort
    classes: tuple[ClassInfo, ...] | None = None
    ignore: int | None = None
    named: bool = False


def read_case_list(path: str | Path) -> CaseList:
    """The case list in a file; its paths are absolute or relative to it.

    Raises InputError, in one line with the case's name, for anything that cannot be used, missing
    files among it.
    """
    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the name") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid JSON ({error}); correct it") from None
    try:
        return _case_list(content, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _case_list(content: Any, folder: Path) -> CaseList:
    if not isinstance(content, dict) or not isinstance(content.get("cases"), list):
        raise InputError('is not a case list: it needs {"cases": [...]}')
    known = ("cases", "channels", "classes", "ignore")
    if unknown := sorted(set(content) - set(known)):
        raise InputError(f"unknown key {unknown[0]!r}; known are {', '.join(known)}")
    by_role: dict[str, list[Case]] = {role: [] for role in ROLES}
    by_image: dict[Path, str] = {}
    for number, item in enumerate(content["cases"], 1):
        role, case = _case(item, number, folder)
        if any(case.name == c.name for cases in by_role.values() for c in cases):
            raise InputError(f"two cases are named {case.name}; give each a name of its own")
        for path in case.images:
            other = by_image.setdefault(path.resolve(), case.name)
            if other != case.name:  # a hold-out case would be trained on
                raise InputError(f"cases {other} and {case.name} have the same image; keep one")
        by_role[role].append(case)
    channels = _channels(content.get("channels"), by_role)
    if not by_role["labeled"]:
        raise InputError("no case is labeled; give at least one to learn from")
    classes = _classes(content.get("classes"))
    ignore = content.get("ignore")
    if ignore is not None and not (_is_whole(ignore) and 1 <= ignore <= LARGEST_VALUE):
        raise InputError(f"ignore is {ignore!r}, not a label from 1 to {LARGEST_VALUE} or null")
    for item in classes or ():
        if item.value == ignore:
            raise InputError(f"ignore {ignore} is the label of {item.name}; choose another")
    stacked = len(channels or ())
    groups = (
        tuple(replace(c, stacked=stacked) if stacked > 1 and not c.further else c
              for c in by_role[role])
        for role in ROLES
    )  # fmt: skip
    cohort = Cohort(*groups, channels or _numbers(by_role))
    return CaseList(cohort, classes, ignore, channels is not None)


def _channels(
    value: Any, by_role: Mapping[str, Sequence[Case]]
) -> tuple[str, ...] | None:
    """The names of the channels, None if the list has none; InputError unless each case has an
    image for each, or one file that may hold all."""
    names = None
    if value is not None:
        texts = isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)
        if not texts or not value or len(set(value)) < len(value):
            raise InputError("channels is not a list of distinct names; give one, or null")
        names = tuple(value)
    cases = [case for group in by_role.values() for case in group]
    count = len(names) if names else max((len(c.images) for c in cases), default=1)
    for case in cases:
        if len(case.images) != count and (case.further or names is None):
            which = f" ({', '.join(names)})" if names else ""
            raise InputError(
                f"case {case.name} has {len(case.images)} images, and the cases have {count} "
                f"channels{which}; add the image that is missing, or leave the case out"
            )
    return names


def _numbers(by_role: Mapping[str, Sequence[Case]]) -> tuple[str, ...]:
    """Numbers as names, for channels without names."""
    count = max(len(case.images) for group in by_role.values() for case in group)
    return Cohort.channels if count == 1 else tuple(f"{n:04d}" for n in range(count))


def _case(item: Any, number: int, folder: Path) -> tuple[str, Case]:
    if not isinstance(item, dict):
        raise InputError(f"case {number} is not an object; write {{...}}")
    name, role = item.get("name"), item.get("role")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"case {number} has no name; add one")
    if isinstance(role, str):
        role = _FORMER_ROLES.get(role, role)
    if role not in ROLES:
        raise InputError(f"case {name}: role is {role!r}; choose one of {', '.join(ROLES)}")
    if unknown := sorted(set(item) - _KEYS):
        raise InputError(
            f"case {name}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}"
        )
    files = {}
    for key in ("image", "label"):
        given = item.get(key)
        if given is None:
            continue
        several = key == "image" and isinstance(given, list) and given
        files[key] = [_path(one, name, key, folder) for one in (given if several else [given])]
    if "image" not in files:
        raise InputError(f"case {name} has no image; add it")
    image, *further = files["image"]
    if len(set(files["image"])) < len(files["image"]):
        raise InputError(f"case {name} has the same image for two channels; give one for each")
    if role != "unlabeled" and "label" not in files:
        raise InputError(f"case {name} is {role} and has no label; add it or make it unlabeled")
    label = files["label"][0] if role != "unlabeled" else None
    geometry = item.get("label_geometry", "file")
    if geometry not in ("file", "image"):
        raise InputError(f'case {name}: label_geometry is {geometry!r}, choose "file" or "image"')
    empty = item.get("empty", False)
    if not isinstance(empty, bool):
        raise InputError(f"case {name}: empty is {empty!r}; choose true or false")
    return role, Case(name, image, label, True, geometry == "image", empty, tuple(further))


def _path(given: Any, name: str, key: str, folder: Path) -> Path:
    if not isinstance(given, str) or "\0" in given or not given:
        raise InputError(f"case {name}: {key} is not a path; give a string")
    path = folder / Path(given).expanduser()
    if not path.exists():
        raise InputError(f"case {name}: there is no {key} {path}; check the path")
    return path


def _classes(value: Any) -> tuple[ClassInfo, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise InputError("classes is not a list; give null or at least one class")
    classes = tuple(class_info(item) for item in value)
    for what in ("value", "name"):
        seen = [getattr(c, what) for c in classes]
        if twice := [s for s in seen if seen.count(s) > 1]:
            raise InputError(f"two classes have the {what} {twice[0]!r}; keep one")
    return classes


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def join_classes(
    base: Sequence[ClassInfo], listed: Sequence[ClassInfo] | None
) -> tuple[tuple[ClassInfo, ...], tuple[int, ...]]:
    """The classes of the model to make, numbered 1, 2, ..., and the label value of each.

    A listed class is the base's that `match_classes` finds; any other is new and comes after the
    base's, in the order of the list. Raises InputError where two listed classes are one of the
    base's, and where one of the base's is not in the labels: their background would teach the
    model to forget it.
    """
    if listed is None:
        return tuple(base), tuple(c.in_files for c in base)
    values: dict[int, int] = {}
    new = []
    for item, match in zip(listed, match_classes(listed, base), strict=True):
        if match is None:
            new.append(item)
        elif match.value in values:
            raise InputError(
                f"two classes of the labels match the base's {match.name}; merge them"
            )
        else:
            values[match.value] = item.value
    for item in base:
        if item.value not in values:
            raise InputError(
                f"the labels have no class {item.name}, which the base model finds: annotate it "
                "too, mark what is not annotated with the ignore value, or start from scratch"
            )
    names = {c.name for c in base}
    numbered = []
    for number, item in enumerate(new, len(base) + 1):
        if item.name in names:
            raise InputError(f"the new class {item.name} has the name of another class; rename it")
        numbered.append(replace(item, value=number))
    classes = (*base, *numbered)
    return classes, (*(values[c.value] for c in base), *(c.value for c in new))
