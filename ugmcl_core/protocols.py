"""Which protocol a training runs under: a profile made to fit the cases, the time and a base."""

from __future__ import annotations

from dataclasses import replace

from .errors import InputError
from .methods import METHODS, Method
from .model import Model
from .profiles import PROFILES, Profile, profile_of

GENTLE = 0.3
"""Part of the profile's learning rate for fine-tuning, where the start is good already."""


def method_named(name: str) -> Method:
    """The method `name` with its default settings; raises InputError if there is none."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]()


def profile_named(name: str) -> Profile:
    """The profile `name`; raises InputError if there is none."""
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}; known are {', '.join(PROFILES)}")
    return PROFILES[name]


def with_iterations(profile: Profile, iterations: int) -> Profile:
    """`profile` with its course, the supervised start and the warm-up included, squeezed or
    stretched to `iterations`."""
    part = iterations / profile.iterations
    rate = profile.optimization.rate
    rate = replace(rate, warmup=round(rate.warmup * part))
    return replace(
        profile,
        iterations=iterations,
        warmup=round(profile.warmup * part),
        optimization=replace(profile.optimization, rate=rate),
    )


def fine_tuning(base: Model, like: Profile, iterations: int) -> Profile:
    """The protocol `like` from the weights of `base`: on its grid, with its network, a gentler
    learning rate, and semi-supervised from the first iteration on."""
    profile = with_iterations(profile_of(base.card, like), iterations)
    rate = profile.optimization.rate
    optimization = replace(profile.optimization, rate=replace(rate, base=GENTLE * rate.base))
    return replace(profile, warmup=0, optimization=optimization)
