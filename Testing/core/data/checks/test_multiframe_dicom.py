"""Multi-frame DICOM files: sorted where that is certain, and refused where it is not."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from multiframe_samples import FRAMES, HEIGHTS, STEP, enhanced

from ugmcl_core.data import volume
from ugmcl_core.errors import InputError


@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize(
    "order", [range(12), [*range(0, 12, 3), *range(1, 12, 3), *range(2, 12, 3)], range(11, -1, -1)]
)
def test_frames_in_any_order_are_sorted(order, as_folder, tmp_path):
    path = enhanced(tmp_path / "scan" / "1.dcm", order)
    found = volume.read(path.parent if as_folder else path)
    assert np.array_equal(found.array, FRAMES.transpose(2, 1, 0))
    assert found.grid.spacing == pytest.approx((0.7, 0.6, STEP))
    assert found.grid.origin == pytest.approx((-1, -2, 0))  # RAS
    assert np.allclose(found.grid.axes, np.diag([-1, -1, 1]))


def test_an_oblique_stack_keeps_its_axes(tmp_path):
    c, s = np.cos(0.4), np.sin(0.4)
    path = tmp_path / "1.dcm"
    # frames stacked along z, turned about it in the plane
    found = volume.read(enhanced(path, orientation=lambda n: [c, s, 0, -s, c, 0]))
    axes = np.array(found.grid.axes)
    assert np.allclose(axes[:, 0], [-c, -s, 0]) and np.allclose(axes[:, 2], [0, 0, 1])
    assert np.array_equal(found.array, FRAMES.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": [*range(5), *range(7, 12)]}, "missing or unevenly spaced"),
        ({"heights": np.repeat(HEIGHTS[::2], 2)}, "lie at the same position"),
        (
            {"orientation": lambda n: [1, 0, 0, 0, 1, 0] if n < 6 else [1, 0, 0, 0, 0, 1]},
            "a different orientation",
        ),
        ({"heights": None}, "without the positions of its frames"),
        ({"spacing": None}, "Pixel Spacing"),
        ({"slope": lambda n: 1.0 + n}, "rescale slopes of their own"),
        (
            {"slope": lambda n: 1, "intercept": lambda n: -n},
            "rescale intercepts of their own",
        ),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.66.4"}, "DICOM segmentation"),
    ],
)
def test_frames_that_form_no_grid_are_refused(changes, words, tmp_path):
    path = enhanced(tmp_path / "scan" / "1.dcm", **changes)
    for given in (path, path.parent):
        with pytest.raises(InputError, match=words) as caught:
            volume.read(given)
        assert "\n" not in str(caught.value)


def test_a_number_of_frames_that_is_not_theirs(tmp_path):
    path = enhanced(tmp_path / "1.dcm")
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 9
    dataset.save_as(path)
    with pytest.raises(InputError, match="without the positions of its frames"):
        volume.read(path)
