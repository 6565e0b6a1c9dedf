"""Budgets: the paper's, ENOTO-CQL within an hour on a laptop, and a smoke test.

A budget is applied to a method before the flags are.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Budget(NamedTuple):
    """Overrides of a method, and the run's own numbers.

    Attributes:
      about: what it is for.
      overrides: path -> value; a path that a method does not have is passed over. Warm-up and
        random steps are never lengthened, updates per step never made fewer, and a reward scale
        that the method or its domain sets is kept.
      seeds: trained together.
      eval_episodes: per evaluation and seed.
      ensemble: N of the phases that have more than two critics; None keeps the method's.
    """

    about: str
    overrides: dict[str, Any]
    seeds: int
    eval_episodes: int
    ensemble: int | None = None


# The paper's regime at a quarter of its width: the penalty's weight, its averaging over critics and
# N stay the method's own. After about 200,000 updates the policy appears, and it stays.
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

# d3rlpy's CQL divides the penalty by the number of critics and moves the actor at 3e-5: meant for a
# million updates. Cut budgets need CORL's form, weight 10 on every critic, and 3e-4.
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

BUDGETS = {
    "paper": Budget("1M updates, 250k environment steps, 5 seeds", {}, 5, 10),
    "laptop": Budget("ENOTO-CQL with ten critics, within an hour on two cores", _LAPTOP, 1, 10),
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
    ),
    "demo": Budget(
        "minutes on a laptop, for the data set that ships with the package",
        {
            **_FAST_CQL,
            "algorithm.hidden": (128, 128),
            "algorithm.critic_hidden": None,
            "offline.steps": 8_000,
            "offline.eval_every": 2_000,
            "online.steps": 12_000,
            "online.eval_every": 1_000,
            "online.warmup": 500,
            "online.random_steps": 500,
            "online.replay.capacity": 20_000,
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
            "algorithm.actor_rate": 1e-3,
            "algorithm.critic_rate": 1e-3,
            "algorithm.temperature_rate": 1e-3,
            "algorithm.discount": 0.98,
            "transform.reward_scale": 0.1,  # the pendulum's rewards are near 9
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
