"""Changes of a row of the table for a domain or a data set; only this module looks at names.

The rows hold the constants for locomotion. This module has those that the authors, or the port that
brought a method to a domain, give for other domains and data sets. A row without an entry is not
tuned there and keeps its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from enoto_jax.recipes import registry
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.tasks import TASKS, Changes

_MINUS_ONE: Changes = {"transform.reward_shift": -1.0}
_TEN_MINUS_FIVE: Changes = {"transform.reward_scale": 10.0, "transform.reward_shift": -5.0}
# d3rlpy's CQL in ENOTO-code: (r - 0.5) * 4.
_FOUR_MINUS_TWO: Changes = {"transform.reward_scale": 4.0, "transform.reward_shift": -2.0}
_IN_SAMPLE: Changes = {
    **_MINUS_ONE,
    "algorithm.expectile": 0.9,
    "algorithm.beta": 10.0,
}
_IQL: Changes = {
    **_IN_SAMPLE,
    "transform.return_range": None,
    "offline.algorithm.decay_steps": None,
}
_LAPO: Changes = {
    "algorithm.value_range": (0.0, 100.0),
    "transform.reward_over_largest": False,
    "transform.reward_scale": 100.0,
}
# The defaults of the authors' code, which their scripts keep in every domain.
_CAL_QL_AUTHORS: Changes = {
    "transform.observations": False,
    "transform.action_limit": 0.99999,
    "algorithm.backup": "best_of",
    "algorithm.actor_rate": 1e-4,
    "algorithm.temperature_rate": 1e-4,
    "algorithm.actor_init.head_gain": 0.01,
    "algorithm.critic_init.head_gain": 0.01,
}
# From the authors' run_antmaze.sh; the sparse reward is 10 * 0 - 5.
_CAL_QL: Changes = {
    **_CAL_QL_AUTHORS,
    **_TEN_MINUS_FIVE,
    "algorithm.weight": 5.0,
    "algorithm.lagrange": 0.8,
    "algorithm.initial_multiplier": math.e,
    "algorithm.sparse_reward": -5.0,
    "algorithm.hidden": (256, 256),
    "algorithm.critic_hidden": (256, 256, 256, 256),
}
_WSRL: Changes = {
    **_TEN_MINUS_FIVE,
    "offline.algorithm.weight": 1.0,
    "offline.algorithm.lagrange": 0.8,
    "algorithm.critic_hidden": (256, 256, 256, 256),
    "online.algorithm.backup": "best_of",
}

_REBRAC_ANTMAZE: Changes = {
    "transform.reward_scale": 100.0,
    "offline.batch_size": 256,
    "algorithm.discount": 0.999,
    "algorithm.actor_rate": 3e-4,
    "algorithm.critic_rate": 5e-5,
}
_REBRAC_ADROIT: Changes = {
    "offline.batch_size": 256,
    "algorithm.actor_rate": 3e-4,
    "algorithm.critic_rate": 3e-4,
}
# ReBRAC as in FQL's repository, on OGBench.
_REBRAC_OGBENCH: Changes = {
    **_REBRAC_ADROIT,
    "algorithm.hidden": (512, 512, 512, 512),
    "algorithm.activation": "gelu",
    "algorithm.actor_init": "xavier_init",
    "algorithm.critic_init": "xavier_init",
}

ANTMAZE: Mapping[str, Changes] = {
    **dict.fromkeys(
        (
            "cql",
            "cql_to_sac",
            "cql_n_to_sac_n",
            "enoto_cql",
            "enoto_cql_released",
            "enoto_plus",
        ),
        _FOUR_MINUS_TWO,
    ),
    "awac": {**_MINUS_ONE, "algorithm.lam": 0.1},
    "iql": _IQL,
    "enoto_iql": _IQL,
    "pex": _IN_SAMPLE,
    "cal_ql": _CAL_QL,
    "wsrl": {**_WSRL, "offline.algorithm.sparse_reward": -5.0},
    "wsrl_cql": _WSRL,
    "rlpd": {
        **_MINUS_ONE,
        "algorithm.hidden": (256, 256, 256),
        "algorithm.target.m": 1,
        "algorithm.backup": "sampled",
    },
    "lapo": {**_LAPO, "algorithm.target.k": 0.7},
    "lapo_n": _LAPO,
    "enoto_lapo": _LAPO,
    "sac_n": {"algorithm.n": 25},
    "rebrac": _REBRAC_ANTMAZE,
    "enoto_rebrac": _REBRAC_ANTMAZE,
    "fql": _MINUS_ONE,
    "enoto_fql": _MINUS_ONE,
    **dict.fromkeys(("qc", "qc_fql", "bfn", "enoto_qc"), _MINUS_ONE),
}
_UNSCALED_IQL: Changes = {
    "algorithm.beta": 0.5,
    "algorithm.expectile": 0.7,
    "transform.return_range": None,  # IQL scales returns only in locomotion
}
_WIDE: Changes = {"algorithm.hidden": (512, 512), "algorithm.critic_hidden": (512, 512, 512)}
_WIDER: Changes = {"algorithm.hidden": (512, 512, 512)}
_WSRL_ADROIT: Changes = {**_WIDE, "offline.algorithm.weight": 1.0}
_WSRL_KITCHEN: Changes = {
    **_WIDER,
    "transform.reward_shift": -4.0,
    "offline.algorithm.weight": 5.0,
    "offline.algorithm.importance_sampling": False,
}
# The dropout of 0.1 in IQL's policy, in both domains, is left out.
ADROIT: Mapping[str, Changes] = {
    "rlpd": {"algorithm.hidden": (256, 256, 256), "algorithm.backup": "sampled"},
    "iql": _UNSCALED_IQL,
    "enoto_iql": _UNSCALED_IQL,
    "awac": {"algorithm.lam": 0.1},  # CORL's
    "cal_ql": {**_CAL_QL_AUTHORS, **_WIDE, "algorithm.weight": 1.0},
    "wsrl": _WSRL_ADROIT,
    "wsrl_cql": _WSRL_ADROIT,
    "rebrac": _REBRAC_ADROIT,
    "enoto_rebrac": _REBRAC_ADROIT,
    "fql": {"algorithm.target": "min_q"},
}
# IQL as in FQL's repository.
_IQL_OGBENCH: Changes = {
    "transform.return_range": None,
    "algorithm.expectile": 0.9,
    "algorithm.beta": 10.0,
    "algorithm.hidden": (512, 512, 512, 512),
    "offline.algorithm.decay_steps": None,
}
# OGBench's single tasks, where every reward is 0 or below.
OGBENCH: Mapping[str, Changes] = {
    "rebrac": {
        **_REBRAC_OGBENCH,
        "online.algorithm.exploration.std": 0.2,
        "online.replay": "append",
        "online.algorithm.cloning_decay_steps": None,
    },
    "enoto_rebrac": _REBRAC_OGBENCH,
    "iql": _IQL_OGBENCH,
    "enoto_iql": _IQL_OGBENCH,
}
KITCHEN: Mapping[str, Changes] = {
    "iql": _UNSCALED_IQL,
    "enoto_iql": _UNSCALED_IQL,
    "cal_ql": {
        **_CAL_QL_AUTHORS,
        **_WIDER,
        "algorithm.critic_hidden": None,
        "transform.reward_shift": -4.0,
        "algorithm.weight": 5.0,
        "algorithm.importance_sampling": False,
        "online.replay.fraction": 0.25,
    },
    "wsrl": _WSRL_KITCHEN,
    "wsrl_cql": _WSRL_KITCHEN,
}

# (pattern of the data set's or environment's name, changes by row); the first match applies.
DOMAINS: Mapping[str, tuple[str, Mapping[str, Changes]]] = {
    "ogbench": (r"(\w+maze|antsoccer|cube|scene|puzzle)-\S*singletask", OGBENCH),
    "antmaze": (r"ant-?maze", ANTMAZE),
    "adroit": (r"(pen|door|hammer|relocate|adroit)(-|/|$)", ADROIT),
    "kitchen": (r"(kitchen|franka)", KITCHEN),
    "locomotion": (r"(hopper|half-?cheetah|walker|ant\b)", {}),
}


def domain_of(name: str) -> str | None:
    """Return the domain that a data set's name or an environment's id belongs to, or None.

    Args:
      name: The name or id, such as `antmaze-umaze-v2`, `D4RL/door/human-v2`, `Hopper-v4`.
    """
    words = name.lower().replace("_", "-")
    for domain, (pattern, _) in DOMAINS.items():
        if re.search(rf"(^|/|-){pattern}", words):
            return domain
    return None


def changes_of(row: str, name: str) -> Changes:
    """Return what the domain, and then the data set itself, change in a row: path -> value.

    Of joined data sets (`a+b`), those changes count that are the same for each of them.
    """
    domain = domain_of(name)
    found = dict(DOMAINS[domain][1].get(row, {})) if domain else {}
    parts = [_of_data_set(row, part) for part in name.lower().replace("_", "-").split("+")]
    return found | {
        path: value
        for path, value in parts[0].items()
        if all(path in part and part[path] == value for part in parts)
    }


def _of_data_set(row: str, words: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if words.startswith("d4rl/"):  # Minari's names of D4RL's recordings: D4RL/door/human-v2
        words = words.removeprefix("d4rl/").replace("/", "-")
    for pattern, rows in TASKS:
        if re.search(rf"(^|/){pattern}", words):
            found |= rows.get(row, {})
    return found


def for_task(recipe: Recipe, row: str, name: str) -> Recipe:
    """Return the row with the constants of a task's domain and data set.

    Args:
      recipe: The row of the table.
      row: The row's name in the table.
      name: The data set's name, or the environment's if there is no data set.
    """
    for path, value in changes_of(row, name).items():
        recipe = registry.override(recipe, path, value)
    return recipe
