"""What a domain or a data set changes in a row of the table: the one place that asks for names.

The rows hold the constants of locomotion. Here are those that the authors, or the port that brought
a method to a domain, give for other domains and data sets; a row without an entry is not tuned
there, and keeps its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from enoto_jax.recipes import registry
from enoto_jax.recipes.recipe import Recipe

Changes = Mapping[str, Any]  # path -> value

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
# Of the authors' run_antmaze.sh; the sparse reward is 10 * 0 - 5.
_CAL_QL: Changes = {
    **_TEN_MINUS_FIVE,
    "transform.observations": False,
    "transform.action_limit": 0.99999,
    "algorithm.weight": 5.0,
    "algorithm.lagrange": 0.8,
    "algorithm.initial_multiplier": math.e,
    "algorithm.backup": "best_of",
    "algorithm.sparse_reward": -5.0,
    "algorithm.actor_rate": 1e-4,
    "algorithm.temperature_rate": 1e-4,
    "algorithm.actor_init.head_gain": 0.01,
    "algorithm.critic_init.head_gain": 0.01,
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
# As ReBRAC runs in FQL's repository, on OGBench.
_REBRAC_OGBENCH: Changes = {
    **_REBRAC_ADROIT,
    "algorithm.hidden": (512, 512, 512, 512),
    "algorithm.activation": "gelu",
    "algorithm.actor_init": "xavier_init",
    "algorithm.critic_init": "xavier_init",
}

ANTMAZE: Mapping[str, Changes] = {
    **dict.fromkeys(
        ("cql", "cql_to_sac", "cql_n_to_sac_n", "enoto_cql", "enoto_cql_released"), _FOUR_MINUS_TWO
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
}
ADROIT: Mapping[str, Changes] = {
    "rlpd": {"algorithm.hidden": (256, 256, 256), "algorithm.backup": "sampled"},
    "rebrac": _REBRAC_ADROIT,
    "enoto_rebrac": _REBRAC_ADROIT,
    "fql": {"algorithm.target": "min_q"},
}
# OGBench's single tasks, where every reward is 0 or below.
OGBENCH: Mapping[str, Changes] = {
    "rebrac": {
        **_REBRAC_OGBENCH,
        "online.replay": "append",
        "online.algorithm.cloning_decay_steps": None,
    },
    "enoto_rebrac": _REBRAC_OGBENCH,
}
# IQL's; its dropout of 0.1 in the policy is not here.
KITCHEN: Mapping[str, Changes] = {
    row: {"algorithm.beta": 0.5, "algorithm.expectile": 0.7} for row in ("iql", "enoto_iql")
}

# (pattern of the data set's or the environment's name, changes by row); the first that fits counts.
DOMAINS: Mapping[str, tuple[str, Mapping[str, Changes]]] = {
    "ogbench": (r"(\w+maze|antsoccer|cube|scene|puzzle)-\S*singletask", OGBENCH),
    "antmaze": (r"ant-?maze", ANTMAZE),
    "adroit": (r"(pen|door|hammer|relocate|adroit)(-|/|$)", ADROIT),
    "kitchen": (r"(kitchen|franka)", KITCHEN),
    "locomotion": (r"(hopper|half-?cheetah|walker|ant\b)", {}),
}

# ReBRAC's coefficients, of the actor and of the critics, as both repositories' configurations have
# them (its AntMaze, Adroit and locomotion), and FQL's repository (OGBench).
REBRAC: Mapping[str, tuple[float, float]] = {
    "halfcheetah-random": (0.001, 0.1),
    "halfcheetah-medium": (0.001, 0.01),
    "halfcheetah-expert": (0.01, 0.01),
    "halfcheetah-medium-expert": (0.01, 0.1),
    "halfcheetah-medium-replay": (0.01, 0.001),
    "halfcheetah-full-replay": (0.001, 0.1),
    "hopper-random": (0.001, 0.01),
    "hopper-medium": (0.01, 0.01),
    "hopper-expert": (0.1, 0.1),
    "hopper-medium-expert": (0.1, 0.01),
    "hopper-medium-replay": (0.05, 0.5),
    "hopper-full-replay": (0.01, 0.01),
    "walker2d-random": (0.01, 0.0),
    "walker2d-medium": (0.05, 0.1),
    "walker2d-expert": (0.01, 0.5),
    "walker2d-medium-expert": (0.01, 0.01),
    "walker2d-medium-replay": (0.05, 0.01),
    "walker2d-full-replay": (0.01, 0.01),
    "antmaze-umaze": (0.003, 0.002),
    "antmaze-umaze-diverse": (0.003, 0.001),
    "antmaze-medium-play": (0.001, 0.0005),
    "antmaze-medium-diverse": (0.001, 0.0),
    "antmaze-large-play": (0.002, 0.001),
    "antmaze-large-diverse": (0.002, 0.002),
    "pen-human": (0.1, 0.5),
    "pen-cloned": (0.05, 0.5),
    "pen-expert": (0.01, 0.01),
    "door-human": (0.1, 0.1),
    "door-cloned": (0.01, 0.1),
    "door-expert": (0.05, 0.01),
    "hammer-human": (0.01, 0.5),
    "hammer-cloned": (0.1, 0.5),
    "hammer-expert": (0.01, 0.01),
    "relocate-human": (0.1, 0.01),
    "relocate-cloned": (0.1, 0.01),
    "relocate-expert": (0.05, 0.01),
}
_SINGLE = r"-\S*singletask"
REBRAC_OGBENCH: Mapping[str, tuple[float, float]] = {
    "antmaze-(large|giant)": (0.003, 0.01),
    "humanoidmaze": (0.01, 0.01),
    "antsoccer": (0.01, 0.01),
    "cube-single": (1.0, 0.0),
    "cube-double": (0.1, 0.0),
    "scene": (0.1, 0.01),
    "puzzle": (0.3, 0.01),
}
# FQL's alpha: of its offline-to-online runs where it has some, else of the offline ones.
FQL: Mapping[str, float] = {
    r"antmaze-(umaze|medium)\S*-v": 10.0,
    r"antmaze-large-(play|diverse)-v": 3.0,
    r"(pen|door|hammer)-cloned-v": 1_000.0,
    "relocate-cloned-v": 10_000.0,
    "pen-human-v": 10_000.0,
    "pen-expert-v": 3_000.0,
    "door-(human|expert)-v": 30_000.0,
    "hammer-(human|expert)-v": 30_000.0,
    "relocate-human-v": 10_000.0,
    "relocate-expert-v": 30_000.0,
    f"antmaze-(large|giant){_SINGLE}": 10.0,
    f"humanoidmaze-medium{_SINGLE}": 100.0,
    f"humanoidmaze-large{_SINGLE}": 30.0,
    f"antsoccer{_SINGLE}": 30.0,
    f"(cube|scene){_SINGLE}": 300.0,
    f"puzzle{_SINGLE}": 1_000.0,
}
_LONG: Changes = {"algorithm.discount": 0.995}


def _near_the_data(actor: float, critic: float) -> Mapping[str, Changes]:
    """The rows' coefficients; online, ReBRAC has the actor's alone, and ENOTO neither."""
    both = {"offline.algorithm.actor_cloning": actor, "offline.algorithm.critic_cloning": critic}
    return {
        "rebrac": {**both, "online.algorithm.actor_cloning": actor},
        "enoto_rebrac": both,
    }


# EDAC and SAC-N choose N and eta for every data set (An et al. 2021; CORL's configurations). All
# patterns that fit count, one after the other.
TASKS: Sequence[tuple[str, Mapping[str, Changes]]] = [
    (
        r"(half-?cheetah|walker2?d?)-medium-expert",
        {"edac": {"algorithm.eta": 5.0}},
    ),
    (r"hopper-medium(-v|$)", {"edac": {"algorithm.n": 50}, "sac_n": {"algorithm.n": 500}}),
    (
        r"hopper-medium-(replay|expert)",
        {"edac": {"algorithm.n": 50}, "sac_n": {"algorithm.n": 200}},
    ),
    (r"walker2?d?-medium", {"sac_n": {"algorithm.n": 20}}),
    *((f"{name}-v", _near_the_data(*both)) for name, both in REBRAC.items()),
    *((name + _SINGLE, _near_the_data(*both)) for name, both in REBRAC_OGBENCH.items()),
    *(
        (name, {row: {"algorithm.alpha": x} for row in ("fql", "enoto_fql")})
        for name, x in FQL.items()
    ),
    (f"antmaze-(large|giant){_SINGLE}", {"fql": {"algorithm.target": "min_q"}}),
    (
        f"(antmaze-giant|humanoidmaze|antsoccer){_SINGLE}",
        dict.fromkeys(("rebrac", "enoto_rebrac", "fql", "enoto_fql"), _LONG),
    ),
]


def domain_of(name: str) -> str | None:
    """The domain that a data set's name or an environment's id belongs to, or None.

    Args:
      name: such as `antmaze-umaze-v2`, `D4RL/door/human-v2`, `Hopper-v4`.
    """
    words = name.lower().replace("_", "-")
    for domain, (pattern, _) in DOMAINS.items():
        if re.search(rf"(^|/|-){pattern}", words):
            return domain
    return None


def changes_of(row: str, name: str) -> Changes:
    """What the domain, and then the data set itself, change in a row: path -> value."""
    domain = domain_of(name)
    found = dict(DOMAINS[domain][1].get(row, {})) if domain else {}
    words = name.lower().replace("_", "-")
    for pattern, rows in TASKS:
        if re.search(rf"(^|/){pattern}", words):
            found |= rows.get(row, {})
    return found


def for_task(recipe: Recipe, row: str, name: str) -> Recipe:
    """The row with the constants of a task's domain.

    Args:
      recipe: the row of the table.
      row: its name there.
      name: of the data set, or of the environment where there is none.
    """
    for path, value in changes_of(row, name).items():
        recipe = registry.override(recipe, path, value)
    return recipe
