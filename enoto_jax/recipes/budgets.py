"""Budgets: the paper's, the same protocol cut to a laptop, and a smoke test.

A budget is applied to a method before the flags are.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Budget(NamedTuple):
    """Overrides of a row, and the run's own numbers.

    Attributes:
      about: what it is for.
      overrides: path -> value; a path that a row does not have is passed over, and warm-up and
        random steps are cut, never lengthened.
      seeds: trained together.
      eval_episodes: per evaluation and seed.
      ensemble: N of the phases that have more than two critics; None keeps the row's.
    """

    about: str
    overrides: dict[str, Any]
    seeds: int
    eval_episodes: int
    ensemble: int | None = None


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
    "cpu": Budget(
        "the same protocol in under an hour on two cores",
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
        "every part once, in under a minute",
        {
            **_FAST_CQL,
            "algorithm.hidden": (32, 32),
            "algorithm.critic_hidden": None,
            "batch_size": 64,
            "offline.steps": 400,
            "offline.eval_every": 200,
            "online.steps": 300,
            "online.eval_every": 100,
            "online.warmup": 100,
            "online.random_steps": 100,
            "online.replay.capacity": 1_000,
        },
        2,
        2,
        ensemble=3,
    ),
}
