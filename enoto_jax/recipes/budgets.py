"""Budgets: the paper's, ENOTO-CQL within an hour on a laptop, and a smoke test.

A budget is applied to a method before the flags are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from enoto_jax.recipes import registry, units
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.types import InputError


class Budget(NamedTuple):
    """Overrides of a method, and the run's own numbers.

    Attributes:
      about: What the budget is for.
      overrides: path -> value. Paths that a method does not have are skipped. Warm-up and random
        steps are never lengthened, updates per step are never reduced, a network that learns more
        slowly online than offline does so by the same factor, and a reward scale that the method
        or its domain sets is kept.
      seeds: How many seeds train together.
      eval_episodes: Episodes per evaluation and seed.
      final_episodes: Episodes of the evaluations on both sides of the hand-over and of the last
        one; None: as many as in the others.
      ensemble: N of the phases with more than two critics; None keeps the method's.
      averaged_penalty: More overrides, for methods whose penalty is averaged over the critics.
    """

    about: str
    overrides: dict[str, Any]
    seeds: int
    eval_episodes: int
    ensemble: int | None = None
    final_episodes: int | None = None
    averaged_penalty: Mapping[str, Any] = MappingProxyType({})

    def last_episodes(self, every: int) -> int:
        """Return the episodes of the last evaluation if the others have `every`."""
        return max(every, self.final_episodes or every)


# The paper's regime at a quarter of its width: the penalty's weight, its averaging over critics and
# N are the method's own.
_LAPTOP = {
    "offline.algorithm.candidates": 1,
    "online.algorithm.candidates": 1,
    "algorithm.actor_rate": 3e-4,
    "algorithm.temperature_rate": 3e-4,
    "algorithm.hidden": (128, 128),
    "algorithm.critic_hidden": None,
    "batch_size": 128,
    "offline.steps": 280_000,
    "offline.eval_every": 20_000,
    "online.steps": 20_000,
    "online.eval_every": 1_000,
    "online.warmup": 1_000,
    "online.random_steps": 1_000,
    "online.replay.capacity": 100_000,
}

# An averaged penalty leaves little on each critic. At a rate of 3e-4 the critics need 200,000
# updates or more to come down from their first overestimate; at 1e-3, a third of that.
_FAST_CRITICS = {"offline.algorithm.critic_rate": 1e-3}

# d3rlpy's CQL divides the penalty by the number of critics and trains the actor at 3e-5, for a
# million updates. Smaller budgets need CORL's form: weight 10 on every critic, and 3e-4.
_FAST_CQL = {
    "offline.algorithm.weight": 10.0,
    "offline.algorithm.reduction": "sum",
    "offline.algorithm.candidates": 1,
    "online.algorithm.weight": 10.0,
    "online.algorithm.reduction": "sum",
    "online.algorithm.candidates": 1,
    "algorithm.actor_rate": 3e-4,
    "algorithm.temperature_rate": 3e-4,
}

# For the small data set in the package.
_PENDULUM = {
    "algorithm.actor_rate": 1e-3,
    "algorithm.critic_rate": 1e-3,
    "algorithm.temperature_rate": 1e-3,
    "algorithm.discount": 0.98,
    "transform.reward_scale": 0.1,  # its rewards are near 9
}

BUDGETS = {
    "paper": Budget("1M updates, 250k environment steps, 5 seeds", {}, 5, 10, final_episodes=100),
    "laptop": Budget(
        "ENOTO-CQL with ten critics, within an hour on two cores",
        _LAPTOP,
        1,
        10,
        final_episodes=100,
        averaged_penalty=_FAST_CRITICS,
    ),
    "cpu": Budget(
        "what `laptop` replaces: a strong penalty on four critics, to repeat earlier results",
        {
            **_FAST_CQL,
            "algorithm.hidden": (256, 256),
            "algorithm.critic_hidden": None,
            "offline.steps": 60_000,
            "offline.eval_every": 5_000,
            "online.steps": 10_000,
            "online.eval_every": 500,
            "online.warmup": 1_000,
            "online.random_steps": 1_000,
            "online.replay.capacity": 50_000,
        },
        1,
        10,
        ensemble=4,
        final_episodes=100,
    ),
    "demo": Budget(
        "minutes on a laptop, for the data set that ships with the package",
        {
            **_FAST_CQL,
            **_PENDULUM,
            "algorithm.hidden": (128, 128),
            "algorithm.critic_hidden": None,
            "offline.steps": 4_000,
            "offline.eval_every": 500,
            "online.steps": 6_000,
            "online.eval_every": 500,
            "online.warmup": 500,
            "online.random_steps": 500,
            "online.replay.capacity": 10_000,
        },
        2,
        10,
        ensemble=4,
    ),
    "smoke": Budget(
        "under a minute; the score of enoto_cql rises on the data set in the package",
        {
            **_FAST_CQL,
            "algorithm.hidden": (32, 32),
            "algorithm.critic_hidden": None,
            **_PENDULUM,
            "batch_size": 64,
            "offline.steps": 2_000,
            "offline.eval_every": 500,
            "online.steps": 3_000,
            "online.eval_every": 500,
            "online.warmup": 100,
            "online.random_steps": 100,
            "online.utd": 4,
            "online.replay.capacity": 5_000,
        },
        2,
        5,
        ensemble=3,
    ),
}


def named(name: str) -> Budget:
    """Return the budget of that name.

    Raises:
      InputError: There is no such budget.
    """
    if not isinstance(name, str) or name not in BUDGETS:
        raise InputError(f"--budget: unknown budget {name!r}{units.nearest(str(name), BUDGETS)}")
    return BUDGETS[name]


def fitting() -> str:
    """Return the name of the budget that fits this machine's device.

    Asking for the devices makes JAX start its backends. On a CPU they are cleared again, so that
    `use_cores` can still set the number of devices.
    """
    fresh = True
    try:
        jax.config.update("jax_num_cpu_devices", jax.config.values["jax_num_cpu_devices"])
    except RuntimeError:  # JAX already has its devices
        fresh = False
    on_cpu = jax.default_backend() == "cpu"
    if fresh and on_cpu:
        jax.extend.backend.clear_backends()
    return "laptop" if on_cpu else "paper"


def with_budget(row: Recipe, budget: Budget) -> Recipe:
    """Return the recipe with a budget's overrides.

    Args:
      row: The recipe of any method.
      budget: See `Budget.overrides`.
    """
    known = {path: value for path, value, _ in units.leaves(row)}
    for phase in ("offline", "online"):
        path = f"{phase}.algorithm.n"
        if budget.ensemble is not None and known.get(path, 0) > 2:
            row = registry.override(row, path, budget.ensemble)
    changes = dict(budget.overrides)
    if known.get("offline.algorithm.reduction") == "mean":
        changes |= budget.averaged_penalty
    for path, value in changes.items():
        if path in ("online.warmup", "online.random_steps"):
            value = min(value, known[path])
        if path == "online.utd":
            value = max(value, known[path])
        if path == "transform.reward_scale" and known.get(path, 1.0) != 1.0:
            continue
        if path in known or f"online.{path}" in known:
            row = registry.override(row, path, value)
        if path.startswith("algorithm.") and path.endswith("_rate"):
            offline, online = known.get(f"offline.{path}"), known.get(f"online.{path}")
            if offline and online and online < offline:
                row = registry.override(row, f"online.{path}", value * (online / offline))
    return row


# Decays that last as long as their phase, unless a user says otherwise.
_DECAYS = (
    "offline.algorithm.decay_steps",
    "online.algorithm.cloning_decay_steps",
    "online.algorithm.alpha_decay_steps",
)


def decayed_at_the_end(before: Recipe, after: Recipe, given: Collection[str] = ()) -> Recipe:
    """Return `after`, in which decays that lasted a whole phase `before` still do.

    Args:
      before: A method as the table or another run has it.
      after: The same method with a budget and with the user's changes.
      given: The paths that the user gave; these values are kept.
    """
    old, new = ({path: v for path, v, _ in units.leaves(row)} for row in (before, after))
    for path in _DECAYS:
        phase = path.partition(".")[0]
        named = any(path == name or path.endswith(f".{name}") for name in given)
        if path in old and old[path] == new.get(path) == _updates(before, phase) and not named:
            after = registry.override(after, path, _updates(after, phase))
    return after


def _updates(row: Recipe, phase: str) -> int:
    """Gradient updates of a phase; 1 if it has none, as a decay lasts at least one update."""
    if phase == "offline":
        return max(1, row.offline.steps if row.offline else 0)
    online = row.online
    steps = online.steps - online.warmup + online.catch_up * online.warmup
    return max(1, steps * online.utd)
