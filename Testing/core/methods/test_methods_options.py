"""Options of methods: from the command line's words, checked by type and range."""

import json
from dataclasses import fields

import pytest

from ugmcl_core.__main__ import main
from ugmcl_core.errors import InputError
from ugmcl_core.methods import DTC, METHODS, UGMCL, Supervised
from ugmcl_core.methods.options import options, with_options


def test_words_become_typed_values():
    words = ["beta=0.5", "passes=4", "cross=false", "Threshold_reference=x"]
    method = with_options(UGMCL, [*words[:3], "threshold_reference=lnC"])
    assert method == UGMCL(beta=0.5, passes=4, cross=False, threshold_reference="lnC")
    assert with_options(UGMCL, []) == UGMCL()


@pytest.mark.parametrize(
    "word,text",
    [
        ("beta", "'beta': give it as NAME=VALUE"),
        ("gamma=1", "has no option 'gamma'; known are beta, passes"),
        ("beta=1.5", "beta must be a number from 0 to 1, not '1.5'"),
        ("beta=nan", "beta must be a number from 0 to 1"),
        ("beta=much", "beta must be a number from 0 to 1, not 'much'"),
        ("passes=2.5", "passes must be a whole number from 1, not '2.5'"),
        ("passes=0", "passes must be a whole number from 1"),
        ("intra=1", "intra must be true or false"),
        ("threshold_reference=ln3", "ln2 or lnC or quantile, not 'ln3'"),
    ],
)
def test_a_wrong_option_is_one_clear_line(word, text):
    with pytest.raises(InputError, match=text) as error:
        with_options(UGMCL, [word])
    assert "\n" not in str(error.value)


def test_twice_and_none_are_named():
    with pytest.raises(InputError, match="given twice"):
        with_options(DTC, ["weight=1", "weight=2"])
    with pytest.raises(InputError, match="supervised has no option 'weight'; it has none"):
        with_options(Supervised, ["weight=1"])


def test_methods_made_in_code_are_checked_too():
    with pytest.raises(InputError, match="weight must be a number from 0, not -1"):
        DTC(weight=-1)
    with pytest.raises(InputError, match="passes must be a whole number"):
        UGMCL(passes=True)
    assert DTC(weight=1) == DTC(weight=1.0)


@pytest.mark.parametrize("name", METHODS)
def test_every_option_is_explained(name):
    shown = options(METHODS[name])
    assert [o.name for o in shown] == [f.name for f in fields(METHODS[name])]
    assert all(o.text and o.allowed for o in shown)


def test_the_command_line_shows_them(capsys):
    assert main(["methods", "ugmcl"]) == 0
    shown = capsys.readouterr().out
    assert "--option beta=0.75  (a number from 0 to 1)" in shown and "supervised:" not in shown
    assert main(["methods", "--options"]) == 0
    assert capsys.readouterr().out.count("--option weight=") >= 4
    assert main(["methods", "ugmcl", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["methods"]
    assert row["options"][0]["name"] == "beta"
    assert main(["methods", "magic"]) == 2
    assert "unknown method 'magic'" in capsys.readouterr().err


def test_train_takes_them(tmp_path, capsys):
    words = ["train", "--images", ".", "--labels", ".", "--output", str(tmp_path / "run")]
    assert main([*words, "--method", "ugmcl", "--option", "betta=0.5"]) == 2
    assert "has no option 'betta'" in capsys.readouterr().err
