"""Small networks are fastest on one thread; more threads only wait for each other."""

import os
from collections import defaultdict
from pathlib import Path

import message_sites
import pytest

message_sites.record()
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A model, in a folder where nobody looks for models."""
    from samples import STAYS, tiny_model

    folder = tmp_path_factory.mktemp("original") / "somewhere"
    model = tiny_model(folder)
    (folder / "NOTICE.txt").write_text("of the authors")
    for name in STAYS:
        (folder / name).write_text("stays behind")
    return model


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The user's folder of models."""
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def pytest_collection_modifyitems(config, items):
    if config.option.markexpr != "long":
        skip_long(items)
    sort_by_time(items)


def skip_long(items):
    """Leave tests of an hour to those who ask for them and nothing else."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes an hour: make test-long"))


def sort_by_time(items):
    """Sort files, of all tests, by the longest time that one of their tests may take: processes
    share the tests by files, and one that trains for minutes and starts last would keep all others
    waiting."""
    longest = defaultdict(float)
    for item in items:
        for limit in item.iter_markers("timeout"):
            longest[item.path] = max(longest[item.path], limit.args[0])
    items.sort(key=lambda item: -longest[item.path])


def pytest_runtest_logreport(report):
    """Keep the figures of the campaigns, which `make test-slow` shows, in the process that had
    them."""
    place = os.environ.get("UGMCL_FIGURES")
    lines = [text for what, text in report.user_properties if what == "figures"]
    if place and report.when == "call" and lines and not hasattr(report, "node"):
        with open(place, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
