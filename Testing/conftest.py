"""Long tests start first: processes share the tests by files, and one that trains for minutes and
starts last would keep all others waiting."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files by the longest time that one of their tests may take."""
    longest: dict[Path, float] = defaultdict(float)
    for item in items:
        for limit in item.iter_markers("timeout"):
            longest[item.path] = max(longest[item.path], limit.args[0])
    items.sort(key=lambda item: -longest[item.path])
