"""Fit the calibration of a model: what its doubt means in mm, in mL and in Dice.

    python Testing/benchmarks/accuracy/calibrate.py --images DIR --labels DIR --cases LIST
        [--without LIST] [--model NAME] [--places-of MODEL ... --places-cases LIST] [--write]

LIST names cases whose references the model was not trained on, at least 5. Where models tend to
err takes more cases than that, but models of one structure tend to err in the same places: the
errors of the further models of --places-of count too for these places, on cases that none of them
was trained on. Prints how each case fares with the calibration of all others, and then the
calibration of all of them; --write puts it into the model's card. See
`ugmcl_core.models.card.Calibration`, and docs/methods.md for the rules.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from scipy import stats
from surface_error import Case, chosen, measured, parser, report

from ugmcl_core.data.pairing import read_list
from ugmcl_core.inference.surface_error import place_factor, place_terms
from ugmcl_core.models.card import Calibration
from ugmcl_core.models.model import resolve, update_card

_HELD = 0.9  # of the surface points, within the error that the map shows
_SURE = 0.95  # of the cases, within an interval
_FEWEST = 5
_GROUPS = 20
_ROUGH_MM = 0.5  # added to errors before their logarithm is taken
_PENALTY = 3.0  # of the squared weights of places, against the mean squared error of a logarithm
_LEAST_MM = 1e-3


def main() -> int:
    """Print and perhaps write the calibration."""
    words = parser(__doc__)
    words.add_argument("--write", action="store_true", help="put it into the model's card")
    words.add_argument("--places-of", nargs="+", metavar="MODEL", default=[],
                       help="further models of the structure, which tend to err in the same "
                            "places")  # fmt: skip
    words.add_argument("--places-cases", metavar="LIST", help="list of case names for these")
    words = words.parse_args()
    if bool(words.places_of) != bool(words.places_cases):
        sys.exit("--places-of and --places-cases belong together; give both or neither")
    others = read_list(words.places_cases) if words.places_cases else []
    if twice := sorted(set(others) & set(chosen(words))):
        sys.exit(f"{words.places_cases}: {twice[0]} is in {words.cases} too, and a case cannot "
                 "count for both; leave it out")  # fmt: skip
    model = resolve(words.model)
    cases = measured(model, words, chosen(words))
    if len(cases) < _FEWEST:
        sys.exit(f"{words.cases}: {len(cases)} cases are too few for an interval; give {_FEWEST} "
                 "or more")  # fmt: skip
    further = [
        case
        for other in words.places_of
        for case in measured(resolve(other), words, others)
    ]
    print("Each case with the calibration of the others:")
    report(cases, [fitted([*cases[:n], *cases[n + 1 :]], further) for n in range(len(cases))])
    calibration = fitted(cases, further)
    print(f"\nCalibration: {json.dumps(asdict(calibration))}")
    if words.write:
        update_card(model, calibration=calibration)
        print(f"written to the card of {model.folder}")
    return 0


def fitted(cases: Sequence[Case], further: Sequence[Case] = ()) -> Calibration:
    """The calibration by these cases; those of ``further`` models count for the places alone."""
    weights = place_weights([*cases, *further])
    factor, exponent = bounds_rule(cases, weights)
    slope, offset, deviation = dice_rule(cases)
    stretch = bound([needed_stretch(c) for c in cases])
    numbers = (factor, exponent, slope, offset, deviation)
    return Calibration(
        *(round(float(n), 3) for n in numbers),
        places=tuple(round(float(w), 3) for w in weights),
        volume_stretch=round(stretch, 3),
    )


def place_weights(cases: Sequence[Case]) -> np.ndarray:
    """The weights of places (9,): ridge regression of the logarithm of the error on that of the
    offset and on the places, every case counting the same."""
    count = 2 + len(place_terms(cases[0].place))
    square, product = np.zeros((count, count)), np.zeros(count)
    for case in cases:
        logarithm = np.log(np.maximum(case.offset, _LEAST_MM))
        x = np.stack([np.ones_like(logarithm), logarithm, *place_terms(case.place)])
        square += x @ x.T / x.shape[1]
        product += x @ np.log(case.error + _ROUGH_MM) / x.shape[1]
    penalty = np.diag([0.0, 0.0] + [_PENALTY] * (count - 2))
    found = np.linalg.solve(square / len(cases) + penalty, product / len(cases))
    return found[2:] / found[1]


def bounds_rule(cases: Sequence[Case], weights: np.ndarray) -> tuple[float, float]:
    """Factor and exponent from the 90 % quantiles of the error in 20 groups of equal size by
    offset, a line in logarithms."""
    offset = np.concatenate([c.offset * place_factor(c.place, weights) for c in cases])
    error = np.concatenate([c.error for c in cases])
    groups = np.array_split(np.argsort(offset), _GROUPS)
    x = [np.log(offset[g].mean()) for g in groups]
    y = [np.log(np.quantile(error[g], _HELD)) for g in groups]
    exponent, logarithm = np.polyfit(x, y, 1)
    return float(np.exp(logarithm)), float(exponent)


def dice_rule(cases: Sequence[Case]) -> tuple[float, float, float]:
    """The line of Theil and Sen from agreement to Dice, which few odd cases do not turn, and the
    deviation whose 1.96-fold is the bound of its errors, each by the line of the others."""
    said, true = np.array([c.agreement for c in cases]), np.array([c.dice for c in cases])
    errors = []
    for n in range(len(cases)):
        slope, start = stats.theilslopes(np.delete(true, n), np.delete(said, n))[:2]
        errors.append(abs(true[n] - slope * said[n] - start))
    slope, start = stats.theilslopes(true, said)[:2]
    return slope, start, bound(errors) / 1.96


def needed_stretch(case: Case) -> float:
    """The stretch from which on the interval holds the volume of the reference."""
    own, low, high = case.volumes
    reach = math.log((high if case.volume > own else low) / own)
    off = math.log(case.volume / own)
    return off / reach if reach else math.inf if off else 0.0


def bound(scores: Sequence[float]) -> float:
    """What the score of one more case, not negative, stays within in 95 % of the cases, if it
    comes from where these came from.

    From 19 scores on the conformal bound (split conformal prediction, e.g. Angelopoulos and
    Bates, arXiv:2107.07511): the k-th smallest of n with k = ⌈0.95 (n + 1)⌉. Fewer have no such k:
    then the tolerance bound of normal errors around 0, z · √(n / χ²) · √(mean square), which in
    19 of 20 calibrations holds at least 95 % of the cases (χ² with n degrees of freedom exceeds
    its 5 % quantile).
    """
    count = len(scores)
    k = math.ceil(_SURE * (count + 1) - 1e-9)
    if k <= count:
        return float(np.sort(scores)[k - 1])
    square = np.sum(np.square(scores)) / stats.chi2.ppf(1.0 - _SURE, count)
    return float(stats.norm.ppf(0.5 + _SURE / 2) * np.sqrt(square))


if __name__ == "__main__":
    sys.exit(main())
