"""Which protocol a training runs under: a profile made to fit the cases, the time and a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .errors import InputError
from .methods import METHODS, Method
from .methods.options import with_options
from .model import Model
from .profiles import PROFILES, Profile, profile_of

GENTLE = 0.3
"""Part of the profile's learning rate for fine-tuning, where the start is good already. A guess:
it was never compared with other values."""


def method_named(name: str, options: Sequence[str] = ()) -> Method:
    """The method `name` with `options` as NAME=VALUE; raises InputError for what is not there."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return with_options(METHODS[name], options)


def profile_named(name: str) -> Profile:
    """The profile `name`; raises InputError if there is none."""
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}; known are {', '.join(PROFILES)}")
    return PROFILES[name]


def with_iterations(profile: Profile, iterations: int) -> Profile:
    """`profile` with its course squeezed or stretched to `iterations`: the supervised start, the
    warm-up and the steps of the learning rate; in a shorter one also the memory of a teacher that
    becomes the model, which would otherwise still hold much of the untrained start at the end."""
    part = iterations / profile.iterations
    o = profile.optimization
    rate = replace(o.rate, warmup=round(o.rate.warmup * part))
    if rate.kind == "step":
        rate = replace(rate, step_size=max(1, round(rate.step_size * part)))
    decay = o.decay
    if o.saved == "teacher" and part < 1:
        decay = max(0.5, 1.0 - (1.0 - o.decay) / part)
    return replace(
        profile,
        iterations=iterations,
        warmup=round(profile.warmup * part),
        optimization=replace(o, rate=rate, decay=decay),
    )


def fine_tuning(
    base: Model, like: Profile, iterations: int, gentleness: float = GENTLE
) -> Profile:
    """The protocol `like` from the weights of `base`: on its grid, with its network, `gentleness`
    times its learning rate, and semi-supervised from the first iteration on. InputError for a base
    of several images a case: a training has one."""
    if len(base.card.channels) > 1:
        raise InputError(
            f"model {base.name} takes {len(base.card.channels)} images a case, and trainings are "
            "of one; choose another base"
        )
    profile = with_iterations(profile_of(base.card, like), iterations)
    rate = profile.optimization.rate
    optimization = replace(profile.optimization, rate=replace(rate, base=gentleness * rate.base))
    return replace(profile, warmup=0, optimization=optimization)
