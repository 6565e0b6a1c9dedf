"""Changes of a row of the table for a single data set, after those of its domain (`domains`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Changes = Mapping[str, Any]  # path -> value

# ReBRAC's coefficients, of the actor and of the critics: here those that both repositories'
# configurations have (AntMaze, Adroit and locomotion), below those of FQL's repository (OGBench).
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
_WHOLE = "(-v|$)"  # the name ends here, or its version follows
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
# FQL's alpha, from its offline-to-online runs if it has some, else from its offline runs.
FQL: Mapping[str, float] = {
    rf"antmaze-(umaze|medium)\S*{_WHOLE}": 10.0,
    f"antmaze-large-(play|diverse){_WHOLE}": 3.0,
    f"(pen|door|hammer)-cloned{_WHOLE}": 1_000.0,
    f"relocate-cloned{_WHOLE}": 10_000.0,
    f"pen-human{_WHOLE}": 10_000.0,
    f"pen-expert{_WHOLE}": 3_000.0,
    f"door-(human|expert){_WHOLE}": 30_000.0,
    f"hammer-(human|expert){_WHOLE}": 30_000.0,
    f"relocate-human{_WHOLE}": 10_000.0,
    f"relocate-expert{_WHOLE}": 30_000.0,
    f"antmaze-(large|giant){_SINGLE}": 10.0,
    f"humanoidmaze-medium{_SINGLE}": 100.0,
    f"humanoidmaze-large{_SINGLE}": 30.0,
    f"antsoccer{_SINGLE}": 30.0,
    f"(cube|scene){_SINGLE}": 300.0,
    f"puzzle{_SINGLE}": 1_000.0,
}
# Cal-QL and WSRL learn Adroit from rewards of -1 and 0, as 10 r + 5. D4RL's own Adroit sets have
# dense rewards, which stay as they are.
_TEN_PLUS_FIVE: Changes = {"transform.reward_scale": 10.0, "transform.reward_shift": 5.0}
_BINARY_ADROIT: Mapping[str, Changes] = {
    "cal_ql": {**_TEN_PLUS_FIVE, "algorithm.sparse_reward": -5.0},
    "wsrl": {**_TEN_PLUS_FIVE, "offline.algorithm.sparse_reward": -5.0},
    "wsrl_cql": _TEN_PLUS_FIVE,
}
_LONG: Changes = {"algorithm.discount": 0.995}


def _near_the_data(actor: float, critic: float) -> Mapping[str, Changes]:
    """Return the rows' coefficients; online, ReBRAC has only the actor's, and ENOTO has none."""
    both = {"offline.algorithm.actor_cloning": actor, "offline.algorithm.critic_cloning": critic}
    return {
        "rebrac": {**both, "online.algorithm.actor_cloning": actor},
        "enoto_rebrac": both,
    }


# EDAC and SAC-N choose N and eta for every data set (An et al. 2021; CORL's configurations). All
# patterns that match apply, one after the other.
TASKS: Sequence[tuple[str, Mapping[str, Changes]]] = [
    (
        r"(half-?cheetah|walker2?d?)-medium-expert",
        {"edac": {"algorithm.eta": 5.0}},
    ),
    (f"hopper-medium{_WHOLE}", {"edac": {"algorithm.n": 50}, "sac_n": {"algorithm.n": 500}}),
    (
        r"hopper-medium-(replay|expert)",
        {"edac": {"algorithm.n": 50}, "sac_n": {"algorithm.n": 200}},
    ),
    (r"walker2?d?-medium", {"sac_n": {"algorithm.n": 20}}),
    *((name + _WHOLE, _near_the_data(*both)) for name, both in REBRAC.items()),
    *((name + _SINGLE, _near_the_data(*both)) for name, both in REBRAC_OGBENCH.items()),
    *(
        (name, {row: {"algorithm.alpha": x} for row in ("fql", "enoto_fql")})
        for name, x in FQL.items()
    ),
    (f"antmaze-(large|giant){_SINGLE}", {"fql": {"algorithm.target": "min_q"}}),
    (
        f"(antmaze-giant|humanoidmaze|antsoccer){_SINGLE}",
        dict.fromkeys(
            ("rebrac", "enoto_rebrac", "fql", "enoto_fql", "iql", "enoto_iql", "rlpd"), _LONG
        ),
    ),
    (f"(pen|door|hammer|relocate)-binary{_WHOLE}", _BINARY_ADROIT),
]
