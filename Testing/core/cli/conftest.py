"""A model and a scan, which no test changes."""

import pytest
from samples import tiny_model, write_image


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return write_image(tmp_path_factory.mktemp("scans") / "scan.nrrd")
