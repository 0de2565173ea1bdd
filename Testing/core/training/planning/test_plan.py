"""The plan of a training: what follows from the fingerprint, and that each part can be given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import ball, on_grid, tiny_model

from ugmcl_core.data.cases import Case, Cohort
from ugmcl_core.data.volume import write
from ugmcl_core.errors import InputError
from ugmcl_core.inference.sliding_window import window_size
from ugmcl_core.models.card import ClassInfo
from ugmcl_core.nn.network import DualTaskVNet
from ugmcl_core.training.planning.architecture import kernels_for, strides_for
from ugmcl_core.training.planning.base_model import contradiction
from ugmcl_core.training.planning.decisions import DECISIONS, MEANINGS, overrides_of
from ugmcl_core.training.planning.fingerprint import (
    CaseFacts,
    Fingerprint,
    Inside,
    Structure,
    Twins,
)
from ugmcl_core.training.planning.laterality import unmirrored
from ugmcl_core.training.planning.limits import Limits
from ugmcl_core.training.planning.plan import plan, plan_cohort
from ugmcl_core.training.profiles import COMPACT

GIB = 1 << 30
CPU = Limits()


def found(shape, spacing, structures, modality="", **changes):
    """The fingerprint of three equal cases; structures are (extent, radius)."""
    middle = tuple(0.5 * n * s for n, s in zip(shape, spacing, strict=True))
    each = tuple(
        Structure(n, 0.01, 1, extent, middle, radius)
        for n, (extent, radius) in enumerate(structures, 1)
    )
    extent = tuple(np.max([s.extent for s in each], axis=0).tolist())
    case = CaseFacts("a", shape, spacing, modality, (0.1, 0.3, 0.4, 0.5, 0.9), each, extent)
    case = replace(case, **changes)
    return Fingerprint((case,) * 3, (case,), Inside(-40.0, 210.0, 85.5, 40.25))


def named(*names):
    return [ClassInfo(n, name) for n, name in enumerate(names, 1)]


STACK = found(
    (216, 256, 10), (1.5, 1.5, 10.0),
    [((60.0, 60.0, 80.0), 20.0), ((70.0, 70.0, 90.0), 5.0), ((90.0, 60.0, 90.0), 14.0)],
)  # fmt: skip
HEART = found((512, 512, 88), (0.625,) * 3, [((100.0, 80.0, 60.0), 16.0)])
SPLEEN = found((512, 512, 300), (0.8, 0.8, 1.0), [((130.0, 110.0, 100.0), 25.0)], "CT")
NODULE = found((512, 512, 300), (0.7, 0.7, 1.0), [((9.0, 9.0, 9.0), 3.0)], "CT")
CLASSES = {1: named("one"), 3: named("left ventricle", "muscle", "right ventricle")}


def of(fingerprint, given=None, limits=CPU):
    return plan(fingerprint, CLASSES[len(fingerprint.values)], limits, given)


def test_thick_slices_stay_and_are_halved_last():
    p = of(STACK).profile
    assert p.representation.spacing == (1.5, 1.5, 10.0) and p.batch.patch[2] == 10
    assert p.batch.patch == (144, 112, 10), "near twice the structures' extent"
    assert window_size((216, 256, 10), p.batch.patch, p.network.multiple) == (224, 256, 10)
    assert window_size((226, 268, 12), p.batch.patch, p.network.multiple) == (240, 272, 12)
    assert p.network.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 1))
    assert p.network.kernels == ((3, 3, 1),) * 2 + ((3, 3, 3),) * 3
    assert (p.batch.labeled, p.batch.unlabeled) == (1, 1)
    assert p.network.classes == p.representation.classes == 4
    assert p.prior == (0.01,) * 3 and p.iterations == COMPACT.iterations


def test_cases_that_show_nothing_do_not_count_in_the_size_of_structures():
    (first, *_), field = HEART.labeled, (0.0, 0.0, 0.0)
    empty = replace(first, structures=(), extent=field)
    most = replace(HEART, labeled=(first, empty, empty))
    assert of(most).profile.batch.patch == of(HEART).profile.batch.patch


def test_the_start_is_on_a_coarser_grid_where_structures_are_still_seen():
    p = of(HEART).profile  # 32 mm thick, so that 8 voxels would allow 3.5 times
    assert p.coarse.spacing == pytest.approx(2.2 * np.array(p.representation.spacing), rel=1e-3)
    ratio = np.prod(p.coarse.patch) / np.prod(p.batch.patch)
    assert 0.15 < ratio < 0.4 and p.coarse.share == 0.75
    assert np.mod(p.coarse.patch, p.network.multiple).tolist() == [0, 0, 0]
    seen = np.multiply(p.coarse.patch, p.coarse.spacing)
    assert (seen > np.multiply(p.batch.patch, p.representation.spacing)).all(), "more around it"
    p = of(SPLEEN, {"grid": "3,3,3"}).profile  # 50 mm thick: 8 voxels of 6.25 mm
    assert p.coarse.spacing == (6.25,) * 3
    p = of(STACK).profile  # between thick slices nothing is left out
    assert p.coarse.spacing == (2.4, 2.4, 10.0) and p.coarse.patch == (96, 64, 10)
    made = of(found((512, 512, 300), (0.7, 0.7, 1.0), [((90.0, 90.0, 90.0), 1.2)]))
    assert made.profile.coarse is None
    line = next(d.line for d in made.decisions if d.what == "coarse")
    assert line == (
        "coarse 0 (share of steps first on larger voxels): they would hide a structure that "
        "is 2.4 mm thick"
    )
    flat = of(found((30, 30, 24), (2.0, 2.0, 1.0), [((9.0, 9.0, 9.0), 4.0)])).profile
    assert flat.coarse is None, "along one axis there is little to save"
    assert of(HEART, {"coarse": "0.5"}).profile.coarse.share == 0.5
    assert of(HEART, {"coarse": "0"}).profile.coarse is None


def test_unlabeled_cases_of_other_kinds_are_left_out():
    case = replace(STACK.unlabeled[0], name="u")
    others = {
        "CT": replace(case, modality="CT"),
        "sagittal": replace(case, shape=(10, 256, 216), spacing=(10.0, 1.5, 1.5)),
        "whole body": replace(case, shape=(216, 256, 60)),
        "negative": replace(case, histogram=(0.8, 0.9, 0.9, 0.9, 1.0)),
    }
    unlabeled = (case, *(replace(c, name=name) for name, c in others.items()))
    mixed = replace(STACK, unlabeled=unlabeled)
    made = of(mixed)
    assert [name for name, _ in made.left_out] == list(others)
    words = ("is CT", "shape along R", "field of view", "intensities")
    assert all(w in why for w, (_, why) in zip(words, made.left_out, strict=True))
    assert made.decisions[0].why.startswith("4 of 5 are of another kind")
    assert made.lines[-1].startswith("negative is left out: ")
    assert made.profile == of(replace(STACK, unlabeled=(case,))).profile
    cohort = Cohort((), tuple(Case(c.name, None) for c in unlabeled))
    assert [c.name for c in made.used(cohort).unlabeled] == ["u"]
    assert of(mixed, {"unlabeled": "all"}).left_out == ()


def test_a_large_structure_gets_a_grid_that_a_patch_covers():
    p = of(HEART).profile
    grid = p.representation.spacing
    assert 1.0 < grid[0] < 1.4 and len(set(grid)) == 1
    covered = np.multiply(p.batch.patch, grid)
    assert (covered > 0.8 * np.array((100, 80, 55))).all()
    assert np.prod(p.batch.patch) < 1.3 * Limits().voxels
    fine = of(HEART, limits=Limits("cuda", 24 * GIB)).profile
    assert fine.representation.spacing[0] < 0.9 and fine.network.filters == 32


def test_a_small_structure_is_expected_as_often_as_patches_show_it():
    """Its share of the image would be so small a start that it is found late or never."""
    nodule = Structure(1, 1e-5, 1, (9.0, 9.0, 9.0), (180.0, 180.0, 150.0), 3.0)
    tiny = tuple(replace(c, structures=(nodule,)) for c in NODULE.labeled)
    p = of(replace(NODULE, labeled=tiny)).profile
    patch_mm3 = np.prod(np.multiply(p.batch.patch, p.representation.spacing))
    around = 1e-5 * 512 * 512 * 300 * 0.7 * 0.7 / patch_mm3
    assert p.prior == pytest.approx((0.67 * around,), rel=0.01)
    assert 20 * nodule.share < p.prior[0] < 3e-3


def test_a_small_structure_keeps_its_voxels():
    grid = of(NODULE).profile.representation.spacing
    assert grid == (0.747, 0.747, 1.067) or 6.0 / grid[0] >= 7.9
    coarse = of(SPLEEN).profile.representation.spacing
    voxels = np.prod(np.array((409.6, 409.6, 300.0)) / coarse)
    assert voxels <= 16.5 * Limits().voxels


@pytest.mark.parametrize("fingerprint", [STACK, HEART, SPLEEN, NODULE])
@pytest.mark.parametrize("limits", [Limits(), Limits("cpu", 4 * GIB), Limits("cuda", 80 * GIB)])
def test_every_plan_fits_its_network(fingerprint, limits):
    p = of(fingerprint, limits=limits).profile
    assert all(n % m == 0 for n, m in zip(p.batch.patch, p.network.multiple, strict=True))
    coarsest = np.divide(p.batch.patch, p.network.multiple)
    assert (coarsest >= 4).all()
    assert np.prod(p.batch.patch) <= 1.3 * limits.voxels


@pytest.mark.parametrize("mm", [1e-6, 0.0004, 0.0015, 0.0065, 50.0])
def test_voxels_of_any_size_stay_as_they_are(mm):
    """Micrometers too: a grid in whole thousandths of a millimeter would be 0."""
    made = of(found((48, 44, 40), (mm,) * 3, [((20 * mm, 16 * mm, 18 * mm), 8 * mm)]))
    r = made.profile.representation
    assert r.spacing == (mm,) * 3 and made.profile.batch.patch == (48, 48, 40)
    assert r.scale == pytest.approx(max(min(20.0, 4.8 * mm), 2 * mm), rel=0.01)
    assert made.profile.coarse.spacing == pytest.approx((2 * mm,) * 3)
    assert not any(" 0 " in d.why and " mm" in d.why for d in made.decisions)


def test_slices_that_some_cases_have_to_be_interpolated_between_are_said():
    (thick, *_), thin = STACK.labeled, (1.5, 1.5, 5.0)
    fine = replace(thick, shape=(216, 256, 20), spacing=thin)
    for cases, words in (
        ((fine, fine, thick), "between some, 2 times as thick, much is made up"),
        ((thick, thick, fine), "and nothing is made up between them"),
    ):
        (line,) = [d for d in of(replace(STACK, labeled=cases, unlabeled=())).decisions
                   if d.what == "grid"]  # fmt: skip
        assert words in line.why and len(line.line) - len(line.value) <= 130


def test_a_few_slices_of_cubes_all_stay_in_their_plane():
    made = of(found((128, 128, 3), (1.0,) * 3, [((48.0, 48.0, 3.0), 22.0)]))
    assert made.profile.coarse.spacing == (2.2, 2.2, 1.0)
    assert made.profile.coarse.patch == (64, 64, 3)
    (why,) = [d.why for d in made.decisions if d.what == "rotation"]
    assert why == "only within the slices, as these are few"
    wide = of(found((3000, 3000, 3), (0.5,) * 3, [((400.0, 400.0, 1.5), 180.0)]))
    grid = wide.profile.representation.spacing
    assert 0.9 < grid[0] == grid[1] < 1.0 and grid[2] == 0.5, "coarser within the slices alone"
    assert wide.profile.batch.patch[2] == 3 and max(wide.profile.network.kernels[0]) == 3
    one = of(found((3000, 3000, 1), (0.5,) * 3, [((400.0, 400.0, 0.5), 180.0)]))
    assert len(set(one.profile.representation.spacing)) == 1, "a single slice stays one anyway"


def test_ct_is_normalized_by_all_cases_and_mr_by_each():
    n = of(SPLEEN).profile.representation.normalization
    assert (n.kind, n.low, n.high, n.mean, n.deviation) == ("global", -40, 210, 85.5, 40.25)
    np.testing.assert_allclose(n(np.array([-1000.0, 85.5, 3000.0])), [-3.118, 0, 3.093], atol=1e-3)
    assert of(HEART).profile.representation.normalization == COMPACT.representation.normalization
    first, second, third = SPLEEN.labeled
    shifted = replace(third, name="c", modality="")  # stored with an offset
    made = of(replace(SPLEEN, labeled=(first, second, shifted)))
    n = made.profile.representation.normalization
    assert n == COMPACT.representation.normalization, "which no offset changes"
    (why,) = [d.why for d in made.decisions if d.what == "normalization"]
    assert "the values of c are not those of CT" in why


def test_sides_are_kept_where_they_matter():
    assert of(HEART).profile.batch.augmentation.mirror_axes == (0, 1)
    pair = [((30.0, 30.0, 60.0), 9.0)] * 2
    kidneys = found((200, 200, 100), (2.0, 2.0, 2.0), pair)

    def axes(likeness, count, names, fingerprint=kidneys, of=3):
        case = fingerprint.labeled[0]
        apart = replace(case, twins=(Twins(1, 2, 0, likeness),))
        cases = (apart,) * count + (case,) * (of - count)
        made = plan(replace(fingerprint, labeled=cases), named(*names), CPU)
        return made.profile.batch.augmentation.mirror_axes

    assert axes(0.8, 3, ("a", "b")) == (1,)
    assert axes(0.8, 1, ("a", "b")) == (0, 1), "on one side in most cases"
    assert axes(0.6, 3, ("a", "b")) == (0, 1), "not alike enough"
    assert axes(0.6, 3, ("left kidney", "right kidney")) == (1,), "but called so"
    assert axes(0.6, 0, ("left ventricle", "right ventricle")) == (0, 1), "unlike each other"
    one = found((200, 200, 100), (2.0, 2.0, 2.0), pair[:1])
    assert axes(0.0, 0, ("left kidney", "right kidney"), one) == (1,), "nobody knows"
    assert axes(0.0, 0, ("right lung", "left lung"), of=1) == (1,), "one case shows too little"
    assert axes(0.0, 0, ("a", "b"), of=1) == (0, 1)


def test_views_that_no_case_shows_are_not_learned():
    def axes(offset, *others, fingerprint=STACK):
        cases = []
        for move in (offset, *others):
            case = fingerprint.labeled[0]
            places = [(160.0, 190.0, 50.0), (160.0, 190.0, 50.0),
                      tuple(a + b for a, b in zip((160.0, 190.0, 50.0), move, strict=True))]
            each = zip(case.structures, places, strict=False)
            structures = tuple(replace(s, center=place) for s, place in each)
            cases.append(replace(case, structures=structures))
        made = of(replace(fingerprint, labeled=tuple(cases)))
        return made.profile.batch.augmentation.mirror_axes

    beside, above = (-30.0, 5.0, 0.0), (-30.0, 40.0, 0.0)
    assert axes(beside, beside, beside) == (1,), "the third structure lies beside the others"
    assert axes(above, above) == ()
    assert axes(beside, beside, (20.0, 5.0, 0.0)) == (0, 1), "not in all cases"
    assert axes((-6.0, 0.0, 0.0), (-6.0, 0.0, 0.0)) == (0, 1), "hardly"
    assert axes(beside) == (1,), "one case shows nothing, but the names tell"
    far = [replace(s, center=(300.0, 200.0, 150.0)) for s in SPLEEN.labeled[0].structures]
    case = replace(SPLEEN.labeled[0], structures=tuple(far))
    made = of(replace(SPLEEN, labeled=(case,) * 3))
    assert made.profile.batch.augmentation.mirror_axes == (1,), "of an organ at one side"
    (why,) = [d.why for d in made.decisions if d.what == "mirror"]
    assert why == "not left-right, as structures lie on one side in all cases"


def test_every_decision_has_a_reason_and_can_be_given_back():
    for fingerprint in (STACK, SPLEEN):
        made = of(fingerprint)
        assert [d.what for d in made.decisions] == list(DECISIONS)
        for d in made.decisions:
            assert d.line == f"{d.what} {d.value} ({MEANINGS[d.what]}): {d.why}"
            assert len(d.line) - len(d.value) <= 130, "one short line"
            assert d.why.count(":") <= 1 and "--" not in d.why, "in plain words"
        again = of(fingerprint, {d.what: d.value for d in made.decisions})
        assert {d.why for d in again.decisions} == {"given"}
        assert again.profile == made.profile


def test_what_follows_from_an_override_follows():
    made = of(STACK, overrides_of(["grid=3,3,3", "patch=70,60,20", "mirror=none"]))
    assert made.profile.batch.patch == (64, 64, 20)
    assert made.profile.network.strides[0] == (2, 2, 2)
    assert made.profile.network.kernels[0] == (3, 3, 3)
    assert made.profile.batch.augmentation.mirror_axes == ()
    assert {d.value for d in made.decisions if d.what == "patch"} == {"64,64,20"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("size=3", "the names are unlabeled, grid"),
        ("patch", "is not NAME=VALUE"),
        ("patch=a,b,c", "planned as 141,109,10"),
        ("grid=1,1", "planned as 1.5,1.5,10"),
        ("grid=1,1,-1", "planned as"),
        ("strides=222", "planned as 221 221"),
        ("kernels=555 333 333 333 333", "planned as"),
        ("normalization=magic", "planned as robust-z,1,99"),
        ("normalization=global,1,2,3,4,5,6", "planned as"),
        ("mirror=Z", "planned as R,A"),
        ("foreground=2", "planned as"),
        ("coarse=1", "planned as 0.75"),
        ("iterations=0", "planned as"),
    ],
)
def test_an_override_that_is_none_is_refused(text, why):
    with pytest.raises(InputError, match=why):
        of(STACK, overrides_of([text]))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("grid=1e-9,1,1", "choose 1e-06 to 100 mm for each axis"),
        ("grid=1,1,500", "choose 1e-06 to 100 mm for each axis"),
        ("grid=0.01,0.01,0.1", "choose larger voxels: a typical image may have 512x512x512"),
        ("patch=5000,5000,5000", "choose at most 16777216 voxels in all, as in 256,256,256"),
        ("strides=999 222 222 222", "choose strides of 1 to 4"),
        ("filters=100000", "choose 1 to 256"),
        ("batch=1000+1", "choose 1 to 256 labeled and 0 to 256 unlabeled patches"),
        ("normalization=robust-z,-1,300", "choose percentiles from 0 to 100"),
        ("normalization=window,nan,1", "planned as"),
        ("dropout=1", "planned as"),
        ("scale=1e9", "choose more than 0, up to 1000 mm"),
        ("mirror=R,R", "choose each direction once, or none"),
        ("rotation=500", "choose 0 to 180 degrees"),
        ("iterations=9999999999", "choose 1 to 2147483647"),
    ],
)
def test_an_override_that_no_training_can_use_is_refused(text, allowed):
    with pytest.raises(InputError) as error:
        of(STACK, overrides_of([text]))
    assert str(error.value).startswith(f"{text}: ") and allowed in str(error.value)


def test_no_rotation_can_be_given():
    assert of(STACK, {"rotation": "0"}).profile.batch.augmentation.rotation == 0


def test_axes_that_cannot_be_halved_are_not():
    assert strides_for((1, 1, 1), (20, 12, 6)) == (
        (2, 2, 1), (2, 1, 1), (1, 1, 1), (1, 1, 1)
    )  # fmt: skip
    assert kernels_for((1, 1, 1), (20, 12, 1), ((1, 1, 1),) * 4) == ((3, 3, 1),) * 5


def test_the_planned_network_runs():
    p = of(STACK, {"filters": "2"}).profile
    out = DualTaskVNet(p.network)(torch.zeros(1, 1, 32, 16, 10))
    assert out.logits.shape == (1, 4, 32, 16, 10) and out.distance.shape == (1, 3, 32, 16, 10)


@pytest.mark.parametrize(("values", "names", "kept"), [
    ((1, 1), ["structure"], ()),
    ((200, 200), ["class 200"], (200,)),
])  # fmt: skip
def test_the_classes_are_those_of_the_labels(tmp_path, values, names, kept):
    def planned(slip):
        cases = []
        for n, value in enumerate(values):
            labels = ball().astype(np.uint8) * value
            labels[0, 0, 0] = slip if n == 0 else 0
            for kind, array in (("image", labels * np.int16(3)), ("label", labels)):
                write(tmp_path / f"{kind}{n}.nrrd", on_grid(array))
            cases.append(Case(f"c{n}", tmp_path / f"image{n}.nrrd", tmp_path / f"label{n}.nrrd"))
        return plan_cohort(Cohort(tuple(cases)), (), torch.device("cpu"))

    made = planned(0)
    assert [c.name for c in made.classes] == names
    assert made.profile.representation.values == kept
    with pytest.raises(InputError, match=f"label0.*label 7 is unknown.*are {values[0]};"):
        planned(7)


def test_a_base_that_hardly_fits_is_pointed_out(tmp_path):
    card = tiny_model(tmp_path / "tiny", modality="LGE-MRI", spacing=(1.25,) * 3).card
    ct = replace(card, modality="CT", normalization={"kind": "window", "low": 0.0, "high": 9.0})
    (heart, stack, spleen, nodule) = (f.labeled for f in (HEART, STACK, SPLEEN, NODULE))
    assert contradiction(card, heart) == ""
    assert contradiction(ct, spleen) == ""
    words = {
        "the images are CT": contradiction(card, spleen),
        "voxels are of 1.5,1.5,10 mm": contradiction(card, stack),
        "less than three voxels": contradiction(replace(ct, spacing=(2.1,) * 3), nodule),
        "it was trained on CT": contradiction(
            ct, [replace(c, modality="MR") for c in heart]
        ),
    }
    for word, text in words.items():
        assert word in text and text.endswith("weights that fit, or training from scratch.")


def test_views_along_some_axes_are_left_out():
    assert unmirrored(COMPACT, ()) == COMPACT
    left = unmirrored(COMPACT, (0,))
    assert left.batch.augmentation.mirror_axes == (1,)
    assert unmirrored(left, (1,)).batch.augmentation.mirror_axes == ()
