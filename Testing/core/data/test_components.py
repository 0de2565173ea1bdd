"""Pieces of a structure, and what a training concludes from those of its labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from samples import tiny_model
from scipy import ndimage

from ugmcl_core.data.cases import Case, Representation, load_case, prepare_case, store_case
from ugmcl_core.data.components import (
    has_several_components,
    keep_common,
    keep_largest,
    keep_surest,
)
from ugmcl_core.data.preprocessing import Normalization
from ugmcl_core.data.volume import Grid, Volume, write
from ugmcl_core.errors import InputError
from ugmcl_core.models.card import ModelCard, class_info
from ugmcl_core.training.finetuning.case_list import read_case_list

SHAPE = (16, 14, 12)


def test_only_the_largest_component_of_a_class_is_kept():
    labels = np.zeros((12, 6, 6), np.uint8)
    labels[1:4, 1:4, 1:4], labels[6:8, 1:3, 1:3], labels[9:11] = 1, 1, 2
    keep_largest(labels, 1)
    assert (labels == 1).sum() == 27 and (labels == 2).sum() == 72 and not labels[6:8].any()


@pytest.mark.parametrize(
    ("sizes", "leads", "kept"),
    [
        ((30, 20), (0.4, 0.9), 1),  # less of it, but surer
        ((30, 20), (0.6, 0.5), 0),
        ((90, 10), (0.4, 1.0), 0),  # what may be noise is no rival, however sure
        ((20, 40, 8), (0.9, 0.5, 0.95), 0),
        ((8, 40), (0.0, 0.0), 1),  # nothing to choose by but the size
    ],
)
def test_the_surest_of_the_components_that_may_be_the_structure_is_kept(sizes, leads, kept):
    mask = pieces(*sizes)
    order, _ = ndimage.label(mask)
    labels = np.where(mask, np.uint8(2), np.uint8(0))
    labels[12:] = 1
    keep_surest(labels, 2, np.array([0.0, *leads], np.float32)[order])
    assert np.array_equal(labels == 2, order == kept + 1) and (labels[12:] == 1).all()


@pytest.mark.parametrize(
    ("common", "kept"),
    [
        ((28, 20), 0),  # a thin bridge between them broke: the larger part, though less of it
        ((3, 20), 1),
        ((0, 1), 1),
        ((0, 0), 0),
    ],
)
def test_the_component_with_most_in_common_with_another_grids_is_kept(common, kept):
    labels = pieces(30, 20).astype(np.uint8)
    order, _ = ndimage.label(labels)
    other = 2 * (pieces(*common) if any(common) else np.zeros_like(labels)).astype(np.uint8)
    labels *= 2
    other[12:] = 1
    keep_common(labels, 2, lambda: other)
    assert np.array_equal(labels == 2, order == kept + 1)


def test_a_single_component_is_kept_unasked():
    labels = pieces(50).astype(np.uint8)
    for value in (1, 2):
        keep_common(labels, value, lambda: pytest.fail("the other grid was asked for"))
    assert labels.sum() == 50


def pieces(*sizes):
    mask = np.zeros(SHAPE, bool)
    for n, size in enumerate(sizes):
        mask[4 * n : 4 * n + 2].reshape(-1)[:size] = True
    return mask


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((), False), ((40,), False), ((96, 4), False), ((90, 10), True), ((30, 30, 30), True)],
)
def test_a_few_stray_voxels_do_not_make_several_pieces(sizes, expected):
    mask = pieces(*sizes)
    assert has_several_components(mask) is expected
    assert ndimage.label(mask)[1] == len(sizes)


def test_pieces_that_the_unknown_may_connect_are_one():
    mask = np.zeros(SHAPE, bool)
    mask[2], mask[10] = True, True  # two annotated slices
    known = np.zeros(SHAPE, bool)
    known[[2, 10]] = True
    assert has_several_components(mask) and not has_several_components(mask, known)
    known[5:7] = True
    assert has_several_components(mask, known)


@pytest.fixture
def lesions(tmp_path):
    """A case of a structure in one piece (1) and one in two (2)."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:6, 2:9, 2:9], labels[8:10, 2:5, 2:5], labels[12:14, 8:11, 8:11] = 1, 2, 2
    grid = Grid(SHAPE)
    rng = np.random.default_rng(0)
    image = 100.0 * labels + rng.normal(0, 1, SHAPE)
    write(tmp_path / "image.nrrd", Volume(image.astype(np.float32), grid))
    write(tmp_path / "label.nrrd", Volume(labels, grid))
    return Case("a", tmp_path / "image.nrrd", tmp_path / "label.nrrd")


def test_a_prepared_case_tells_and_a_stored_one_too(lesions, tmp_path):
    r = Representation((1.0,) * 3, Normalization(), classes=3)
    case = prepare_case(lesions, r)
    assert case.several_components == (False, True)
    store_case(case, tmp_path / "stored")
    assert load_case(tmp_path / "stored").several_components == (False, True)


def test_a_class_of_a_list_is_left_to_the_labels_unless_it_says(lesions, tmp_path):
    given = {"value": 1, "name": "lesion"}
    assert class_info(given).largest_component is None
    for said in (True, False):
        assert class_info({**given, "largest_component": said}).largest_component is said
    with pytest.raises(InputError, match="neither true nor false"):
        class_info({**given, "largest_component": None})
    path = tmp_path / "cases.json"
    entry = {"name": "a", "role": "labeled", "image": "image.nrrd", "label": "label.nrrd"}
    path.write_text(json.dumps({"cases": [entry], "classes": [given]}))
    assert read_case_list(path).classes[0].largest_component is None


def test_a_card_without_the_key_means_one_piece(tmp_path):
    folder = tiny_model(tmp_path / "tiny").folder
    content = json.loads((folder / "model.json").read_text())
    for item in content["classes"]:
        del item["largest_component"]
    card = ModelCard.from_json(json.dumps(content))
    assert all(c.largest_component is True for c in card.classes)
