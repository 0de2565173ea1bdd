"""The report of a fine-tuning compares only what lies on one grid."""

from __future__ import annotations

import numpy as np
import pytest
from samples import small_case, tiny_model

from ugmcl_core import volume
from ugmcl_core.cases import Case
from ugmcl_core.errors import InputError
from ugmcl_core.finetuning import REPORTED, report


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def reported(model, folder, labels):
    image, _ = small_case()
    volume.write(folder / "image.nrrd", image)
    volume.write(folder / "label.nrrd", labels)
    case = Case("case", folder / "image.nrrd", folder / "label.nrrd")
    return report(model, [case], "cpu", lambda: False, lambda fraction, text: None)


def test_a_report_has_a_row_for_each_case(model, tmp_path):
    (row,) = reported(model, tmp_path, small_case()[1])
    assert set(row) == set(REPORTED) and 0 <= row["dice"] <= 1


@pytest.mark.parametrize("kind", ["another spacing", "another size"])
def test_labels_on_another_grid_are_refused(kind, model, tmp_path):
    labels = small_case()[1]
    if kind == "another spacing":
        labels = volume.Volume(labels.array, volume.Grid(labels.grid.shape, (3.0, 3.0, 2.0)))
    else:
        labels = volume.Volume(np.pad(labels.array, 1), volume.Grid((38, 32, 24), (3.0, 3.0, 2.5)))
    with pytest.raises(InputError, match=r"label\.nrrd.*another grid.*image\.nrrd"):
        reported(model, tmp_path, labels)
