"""A model survives the disk, and nothing else is taken for one."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given as for_any
from hypothesis import strategies as st

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.models import model as models
from ugmcl_core.models.card import Calibration, ClassInfo, ModelCard, Terminology, as_name

ROOT = Path(__file__).resolve().parents[3]


def card(**changes) -> ModelCard:
    plain = ModelCard(
        name="atrium-test",
        description="A small model for tests.",
        modality="LGE-MRI",
        classes=(
            ClassInfo(1, "left atrium", (0.9, 0.3, 0.3), Terminology("SCT", "82471001", "LA")),
            ClassInfo(2, "scar", (1.0, 1.0, 0.0), None, False),
        ),
        channels=("LGE",),
        spacing=(1.25, 1.25, 1.25),
        patch=(96, 80, 48),
        normalization={"kind": "robust", "low": 1.0, "high": 99.0},
        network={"classes": 3, "filters": 4},
        field_of_view_mm=((80.0, 70.0, 50.0), (160.0, 140.0, 60.0)),
        training={"method": "ugmcl", "seed": 3},
        scores={"dice": 0.9},
        license="research only",
        intended_use="tests",
        sha256="0" * 64,
    )
    return replace(plain, **changes)


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 1, 3, 3, 3, generator=generator),
        "norm.running_var": torch.tensor([1.0, 7e4, 1e-9, 2.0]),
        "norm.num_batches_tracked": torch.tensor(12),
    }


@pytest.fixture
def saved(tmp_path: Path) -> models.Model:
    return models.save_model(tmp_path / "atrium", card(), state())


def alter(model: models.Model, **changes) -> Path:
    path = model.folder / "model.json"
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))
    return model.folder


def test_card_survives_json():
    places = (0.1, 0.0, -0.2, 0.0, 0.0, 0.03, 0.0, 0.0, 0.0)
    calibration = Calibration(2.0, 3.0, 1.2, -0.2, 0.03, places, 1.7)
    for given in (card(), card(calibration=calibration)):
        assert ModelCard.from_json(given.to_json()) == given


def test_a_calibration_of_before_there_were_places_has_none(saved):
    former = {"factor": 2.0, "exponent": 3.0, "dice_slope": 1.2, "dice_offset": -0.2}
    model = models.open_model(alter(saved, calibration={**former, "dice_deviation": 0.03}))
    assert model.card.calibration == Calibration(2.0, 3.0, 1.2, -0.2, 0.03)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([2.1], "calibration needs factor, exponent"),
        ({"factor": 2.0}, "calibration needs factor, exponent"),
        ({**asdict(Calibration()), "factor": -1.0}, "factor of calibration"),
        ({**asdict(Calibration()), "dice_offset": "low"}, "calibration holds"),
        ({**asdict(Calibration()), "places": [0.0] * 8}, "places of calibration is not a list"),
        ({**asdict(Calibration()), "places": [True] * 9}, "calibration holds"),
        ({**asdict(Calibration()), "volume_stretch": 0}, "volume_stretch of calibration"),
        ({**asdict(Calibration()), "other": 1.0}, "calibration needs factor, exponent"),
    ],
)
def test_a_calibration_that_is_none_is_refused(saved, wrong, told):
    with pytest.raises(InputError, match=told):
        models.open_model(alter(saved, calibration=wrong))


def test_model_survives_the_disk(saved):
    again = models.open_model(saved.folder)
    assert again == saved
    assert again.card == replace(card(), sha256=again.card.sha256)
    loaded = again.load_weights()
    assert set(loaded) == set(state())
    torch.testing.assert_close(loaded["conv.weight"], state()["conv.weight"], atol=0, rtol=1e-3)
    # Vectors stay exact: 7e4 is beyond the range of float16, 1e-9 below it.
    assert torch.equal(loaded["norm.running_var"], state()["norm.running_var"])
    assert loaded["norm.num_batches_tracked"].dtype == torch.int64
    models.verify(again)


def test_full_precision_is_exact(tmp_path):
    model = models.save_model(tmp_path / "m", card(), state(), half=False)
    for key, value in model.load_weights().items():
        assert torch.equal(value, state()[key])


def test_half_is_half_the_size(tmp_path):
    big = {"w": torch.zeros(64, 64, 3, 3, 3)}
    sizes = [
        (models.save_model(tmp_path / str(half), card(), big, half).folder / models.WEIGHTS)
        .stat().st_size
        for half in (True, False)
    ]
    assert sizes[0] < 0.51 * sizes[1]


def test_kernels_beyond_half_precision_stay_exact(tmp_path):
    weights = {"w": torch.full((2, 2), 1e6)}
    loaded = models.save_model(tmp_path / "m", card(), weights).load_weights()
    assert torch.equal(loaded["w"], weights["w"])


def test_saving_again_replaces_and_keeps_notices(saved):
    (saved.folder / "NOTICE.txt").write_text("research only")
    again = models.save_model(saved.folder, card(description="second"), state())
    assert again.card.description == "second"
    assert (again.folder / "NOTICE.txt").read_text() == "research only"
    assert [p.name for p in again.folder.parent.iterdir()] == ["atrium"], "temporary folders left"


@pytest.mark.parametrize("content", ["file", "other", "subfolder"])
def test_saving_never_replaces_something_else(tmp_path, content):
    place = tmp_path / "place"
    if content == "file":
        place.write_text("precious")
    else:
        place.mkdir()
        (place / "thesis.tex").write_text("precious")
        if content == "subfolder":
            (place / "model.json").write_text("{}")
            (place / "checkpoints").mkdir()
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(InputError):
        models.save_model(place, card(), state())
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_a_failed_save_leaves_the_former_model(saved, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    text = rf"{saved.folder}/weights.safetensors: cannot be written \(No space left"
    with pytest.raises(InputError, match=text):
        models.save_model(saved.folder, card(description="second"), state())
    assert models.open_model(saved.folder) == saved
    assert [p.name for p in saved.folder.parent.iterdir()] == ["atrium"]


def test_a_card_that_cannot_be_read_back_is_not_written(tmp_path):
    with pytest.raises(InputError, match="spacing"):
        models.save_model(tmp_path / "m", card(spacing=(0.0, 1.0, 1.0)), state())
    assert not list(tmp_path.iterdir())


def test_altered_weights_are_refused(saved):
    path = saved.folder / models.WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="SHA-256"):
        models.open_model(saved.folder).load_weights()


def test_missing_weights_are_refused(saved):
    (saved.folder / models.WEIGHTS).unlink()
    with pytest.raises(InputError, match="missing"):
        models.open_model(saved.folder)


def test_a_pickle_under_the_name_of_the_weights_is_not_loaded(saved, tmp_path):
    import hashlib

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    content = pickle.dumps(Trap())
    (saved.folder / models.WEIGHTS).write_bytes(content)
    alter(saved, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(InputError, match="cannot be read"):
        models.open_model(saved.folder).load_weights()
    assert not (tmp_path / "sprung").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = models.save_model(tmp_path / "m", card(), {"w": torch.tensor([1.0, float("nan")])})
    with pytest.raises(InputError, match="not finite"):
        models.verify(model)


CHANGES = {
    "format": (2, "format version 2"),
    "name": ("a/b", "name"),
    "classes": ([], "classes"),
    "channels": ("LGE", "channels"),
    "spacing": ([1, 1, float("inf")], "spacing"),
    "patch": ([96.5, 80, 48], "patch"),
    "normalization": ({}, "normalization"),
    "network": ([], "network"),
    "sdf": ("signed", "sdf"),
    "scale_mm": (-1, "scale_mm"),
    "field_of_view_mm": ([[9, 9, 9], [8, 9, 9]], "field_of_view_mm"),
    "sha256": ("beef", "sha256"),
    "license": (3, "license"),
    "surprise": (1, "surprise"),
    "modality": (..., "modality"),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_wrong_card_is_refused_in_one_line(saved, field):
    value, word = CHANGES[field]
    with pytest.raises(InputError) as caught:
        models.open_model(alter(saved, **{field: value}))
    assert word in str(caught.value)
    assert str(saved.folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"value": 0}, {"value": True}, {"value": 70000}, {"name": " "}, {"color": [1, 2, 3]},
        {"color": [0.1, 0.2]}, {"terminology": {"scheme": "SCT"}}, {"largest_component": 1},
        {"value": 2}, {"value": 3}, {"name": "scar"}, {"extra": 1},
    ],
)
def test_a_wrong_class_is_refused(saved, change):
    content = json.loads((saved.folder / "model.json").read_text())
    content["classes"][0].update(change)
    with pytest.raises(InputError):
        models.open_model(alter(saved, classes=content["classes"]))


@pytest.mark.parametrize("text", ["my run (2)", "..", "", "Vorhöfe", "a" * 300])
def test_any_text_makes_a_name(text):
    assert ModelCard.from_json(card(name=as_name(text)).to_json()).name


NESTED = "[" * 100_000 + "]" * 100_000  # deeper than Python's parser goes


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": true}', "\x00", NESTED])
def test_something_that_is_no_card_is_refused(saved, text):
    (saved.folder / "model.json").write_text(text)
    with pytest.raises(InputError):
        models.open_model(saved.folder)


@pytest.mark.parametrize("suffix", models.PICKLES)
def test_pickles_are_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps({}))
    for wanted in (path, tmp_path):
        with pytest.raises(InputError, match="pickle"):
            models.resolve(wanted)


def test_models_are_found_by_name_and_by_folder(saved, monkeypatch, tmp_path):
    monkeypatch.setenv("UGMCL_MODELS", str(saved.folder.parent))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.json").write_text("{}")
    assert saved in models.find_models()
    assert not any(m.folder.name == "broken" for m in models.find_models())
    assert models.resolve("atrium-test") == saved
    assert models.resolve(saved.folder) == saved
    assert models.resolve(str(saved.folder)) == saved
    assert not saved.bundled


def breaking(folder: Path, kind: str) -> str:
    """Break the model in `folder`; a word of the error."""
    path = folder / "model.json"
    if kind == "future format":
        path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
        return "format version 99"
    if kind == "no weights":
        (folder / models.WEIGHTS).unlink()
        return "weights.safetensors is missing"
    if kind == "surrogate":
        path.write_text(path.read_text().replace("A small", "\\ud800 small"))
        return "not valid JSON"
    if kind == "400 digits":
        path.write_text(path.read_text().replace("10.0", "1" + 400 * "0"))
        return "scale_mm"
    path.write_text({"nested": NESTED, "no name": "{}", "odd name": '{"name": []}'}[kind])
    return "not valid JSON" if kind == "nested" else "format version None"


READABLE_NAME = ["future format", "no weights", "surrogate", "400 digits"]
KINDS = [*READABLE_NAME, "nested", "no name", "odd name"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_model_says_why_when_it_is_asked_for(saved, monkeypatch, tmp_path, kind):
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path))
    models.save_model(tmp_path / "whole", card(name="whole"), state())
    word = breaking(saved.folder, kind)
    # The folder is "atrium"; the name stands in the card where that can be read.
    name = "atrium-test" if kind in READABLE_NAME else "atrium"
    with pytest.raises(InputError, match=word):
        models.resolve(name)
    assert list(models.broken_models()) == [saved.folder]
    assert models.resolve("whole").name == "whole"
    with pytest.raises(InputError, match=r"no model.*available: whole"):
        models.resolve("liver")


def test_a_broken_model_is_not_replaced_by_a_later_one_of_its_name(saved, monkeypatch, tmp_path):
    later = models.save_model(tmp_path / "later" / "atrium", card(), state())
    places = [saved.folder.parent, later.folder.parent]
    breaking(saved.folder, "no weights")
    monkeypatch.setenv("UGMCL_MODELS", os.pathsep.join(map(str, places)))
    with pytest.raises(InputError, match="missing"):
        models.resolve("atrium-test")
    monkeypatch.setenv("UGMCL_MODELS", os.pathsep.join(map(str, reversed(places))))
    assert models.resolve("atrium-test") == later


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_model_disturbs_no_other_command(saved, monkeypatch, tmp_path, kind, capfd):
    monkeypatch.setenv("UGMCL_MODELS", str(tmp_path))
    models.save_model(tmp_path / "whole", card(name="whole"), state())
    word = breaking(saved.folder, kind)
    assert main(["models", "show", "whole"]) == 0
    assert capfd.readouterr().err == ""
    assert main(["models", "show", "liver"]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert main(["models"]) == 0  # a list says it, in one line
    told = capfd.readouterr()
    assert "whole: " in told.out
    assert len(told.err.splitlines()) == 1 and word in told.err
    assert main(["models", "verify"]) == 1
    told = capfd.readouterr()
    assert "whole: intact" in told.out and word in told.err


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from([10**400, -(10**400), "\ud800", 1e308]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
)  # fmt: skip


@for_any(st.sampled_from([f for f in card().__dataclass_fields__ if f != "format"]), VALUES)
def test_whatever_a_card_holds_it_is_refused_or_can_be_shown(name, value):
    content = {**json.loads(card().to_json()), name: value}
    try:
        found = ModelCard.from_json(json.dumps(content))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert ModelCard.from_json(found.to_json()).to_json().encode()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_whose_name_is_no_text_is_shown(saved, monkeypatch):
    place = saved.folder.parent / os.fsdecode(b"models-\xff")
    place.mkdir()
    saved.folder.rename(place / "atrium")
    words = [sys.executable, "-m", "ugmcl_core", "models"]
    environment = {**os.environ, "UGMCL_MODELS": str(place), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(words, env=environment, capture_output=True, cwd=ROOT)
    assert done.returncode == 0 and b"models-\\udcff" in done.stdout


def test_a_folder_that_cannot_be_looked_into_disturbs_no_command(saved, monkeypatch):
    def closed(place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("UGMCL_MODELS", str(saved.folder.parent))
    monkeypatch.setattr(Path, "iterdir", closed)
    assert models.find_models() == []
    assert "Permission denied" in str(models.broken_models()[saved.folder.parent])


def test_a_run_folder_stands_for_its_model(saved):
    run = saved.folder.parent / "run"
    run.mkdir()
    saved.folder.rename(run / "model")
    assert models.resolve(run).name == "atrium-test"


def test_an_unknown_name_lists_what_there_is(saved, monkeypatch):
    monkeypatch.setenv("UGMCL_MODELS", str(saved.folder.parent))
    with pytest.raises(InputError, match=r"available: .*atrium-test"):
        models.resolve("liver")


@pytest.mark.parametrize("place", ["ugmcl_core/models/bundled", "Resources/Models"])
def test_bundled_models_are_found_beside_the_package(saved, monkeypatch, tmp_path, place):
    monkeypatch.setattr(models, "_ROOM", tmp_path / "install" / "ugmcl_core" / "models")
    monkeypatch.delenv("UGMCL_MODELS", raising=False)
    target = tmp_path / "install" / place
    target.mkdir(parents=True)
    saved.folder.rename(target / "atrium")
    (found,) = models.find_models()
    assert found.name == "atrium-test"
    assert found.bundled


def test_importing_loads_no_torch():
    code = (
        "import sys, ugmcl_core.models.model as m; m.find_models();"
        "print({'torch', 'scipy', 'safetensors'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == "set()", shown.stderr
