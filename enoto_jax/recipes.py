"""The table: every method as one row. A recipe is an offline phase, a hand-over, an online phase.

Constants are ENOTO's (Zhao et al., IJCAI 2024; its released code where the paper is silent):
N = 10, 3 x 256, Adam 3e-5 / 3e-4 / 1e-4 for actor / critics / temperature, one update per step.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax import core, exploration, handover, replay, targets
from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.sac import sac
from enoto_jax.data import transforms
from enoto_jax.networks import edac_init
from enoto_jax.types import InputError, Spec, Transition
from enoto_jax.units import Unit, nearest, unit

OFFLINE_STEPS = 1_000_000
ONLINE_STEPS = 250_000


@dataclasses.dataclass(frozen=True)
class Phase:
    """An algorithm with its data and its budget.

    Args:
      algorithm: networks, losses and how to act.
      steps: gradient updates (offline) or environment steps (online).
      batch_size: B, transitions per gradient update (of each agent, where there are several).
      replay: where online batches come from; ignored offline.
      warmup: environment steps before the first online update.
      utd: gradient updates per environment step.
      catch_up: times utd, updates for every step of the warm-up, all at once when it has ended.
      random_steps: first environment steps with uniform actions.
      eval_every: steps of this phase between two evaluations.
    """

    algorithm: Unit
    steps: int
    batch_size: int = 256
    replay: Unit = dataclasses.field(default_factory=lambda: unit(replay.online_only))
    warmup: int = 0
    utd: int = 1
    catch_up: int = 0
    random_steps: int = 0
    eval_every: int = 1_000


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of the table.

    Args:
      about: one line for the table in the docs.
      offline: the first phase, or None: online from scratch.
      handover: what the online phase starts from.
      online: the second phase.
      transform: of observations, actions and rewards, fitted to the data set; of both phases.
    """

    about: str
    offline: Phase | None
    handover: Unit
    online: Phase
    transform: Unit = dataclasses.field(default_factory=lambda: unit(transforms.transform))


class Built(NamedTuple):
    """A recipe whose units are made and fit together."""

    offline: core.Algorithm | None
    handover: handover.Handover
    online: core.Algorithm
    replay: replay.Replay


NEEDS = {"q": "critics", "moments": "Gaussian before tanh"}


def build(recipe: Recipe, spec: Spec) -> Built:
    """Make every unit and check, without compiling anything, that they fit together.

    Raises:
      InputError: one line that says which units do not fit and what to change.
    """
    phases = {"offline": recipe.offline, "online": recipe.online}
    for name, phase in phases.items():
        if phase is not None:
            _check_numbers(name, phase)
    offline = recipe.offline and recipe.offline.algorithm.build(spec)
    online = recipe.online.algorithm.build(spec)
    built = Built(offline, recipe.handover.build(), online, recipe.online.replay.build())
    for need in online.exploration.needs:
        if getattr(online, need) is None:
            raise InputError(
                f"this exploration needs the {NEEDS[need]} of the online algorithm, "
                f"{recipe.online.algorithm.name}, which has none; choose another --exploration"
            )
    if online.monte_carlo is not None and not built.replay.returns:
        raise InputError(
            f"{recipe.online.algorithm.name} needs the returns of new episodes, which the replay "
            f"{recipe.online.replay.name} does not keep; choose --replay=whole_episodes"
        )
    if (built.replay.feedback is None) != (online.priority is None):
        raise InputError(
            f"--replay: {recipe.online.replay.name} does not fit {recipe.online.algorithm.name}: "
            "balanced draws by the priorities that br alone computes, from batches of balanced"
        )
    key = jax.eval_shape(lambda: jax.random.key(0))
    before = offline and jax.eval_shape(lambda k: core.init(offline, k), key)
    state = jax.eval_shape(lambda k, s: built.handover(k, s, online), key, before)
    batch = example_batch(spec, online, built.replay, recipe.online.batch_size)
    after = jax.eval_shape(lambda s, b, k: core.update(online, s, b, k)[0], state, batch, key)
    jax.eval_shape(lambda s, k: _first_action(online, spec, s, k), state, key)
    difference = handover.differences(state, after)
    if difference:
        raise InputError(f"the hand-over's state is not what the online update keeps: {difference}")
    return built


def _first_action(algorithm: core.Algorithm, spec: Spec, state: core.TrainState, key):
    rule = algorithm.exploration
    memory = rule.reset(key, algorithm.critics)
    return rule.act(key, algorithm, state, memory, jnp.zeros(spec.observation_size))


def example_transition(spec: Spec, algorithm: core.Algorithm, count: int | None = None):
    """Zeros shaped as the online phase stores a transition ([count, ...] if given)."""
    lead = () if count is None else (count,)
    extras = {}
    if algorithm.exploration.mask is not None:
        extras["mask"] = jnp.ones((*lead, algorithm.critics))
    if algorithm.monte_carlo is not None:
        extras["mc_return"] = jnp.zeros(lead)
    return Transition(
        observation=jnp.zeros((*lead, spec.observation_size)),
        action=jnp.zeros((*lead, spec.action_size)),
        reward=jnp.zeros(lead),
        terminated=jnp.zeros(lead, bool),
        truncated=jnp.zeros(lead, bool),
        next_observation=jnp.zeros((*lead, spec.observation_size)),
        extras=extras,
    )


def example_batch(spec: Spec, algorithm: core.Algorithm, policy: replay.Replay, count: int):
    """Shapes of what an online update gets: `count` transitions and the replay's own extras."""

    def draw():
        one = example_transition(spec, algorithm)
        stored = replay.Stored(replay.ring.empty(one, policy.capacity), policy.start(1))
        data = example_transition(spec, algorithm, 1)
        return policy.sample(stored, data, jax.random.key(0), count, jnp.int32(1))

    return jax.eval_shape(draw)


def switch(recipe: Recipe) -> list[str]:
    """What changes from the offline to the online phase, a line each; for people to read."""
    if recipe.offline is None:
        return []
    old, new = recipe.offline.algorithm, recipe.online.algorithm
    lines = [f"the switch: {recipe.handover}", f"  loss: {old.name} -> {new.name}"]
    for name, default in (("target", "min_q()"), ("exploration", "policy()")):
        before, after = (str(unit.resolved()[name] or default) for unit in (old, new))
        lines.append(f"  {name}: {after}" + (f" (was {before})" if before != after else ""))
    replay = f"  replay: {recipe.online.replay}, first update after {recipe.online.warmup:,} steps"
    burst = recipe.online.catch_up * recipe.online.warmup * recipe.online.utd
    return [*lines, replay + (f", {burst:,} at once" if burst else "")]


def _check_numbers(name: str, phase: Phase) -> None:
    least = {"batch_size": 1, "utd": 1, "eval_every": 1}
    least |= dict.fromkeys(("steps", "warmup", "catch_up", "random_steps"), 0)
    for field, bound in least.items():
        value = getattr(phase, field)
        if not isinstance(value, int) or value < bound:
            raise InputError(f"{name}.{field} is {value!r}; give a whole number, at least {bound}")


def _enoto_rates() -> dict:
    return {"actor_rate": 3e-5, "critic_rate": 3e-4, "temperature_rate": 1e-4}


def _cql_row(about: str, n: int, online: Unit) -> Recipe:
    """CQL with n critics offline, everything carried, an empty online buffer (ENOTO section 3)."""
    return Recipe(
        about,
        offline=Phase(unit(cql, n=n, **_enoto_rates()), OFFLINE_STEPS),
        handover=unit(handover.carry),
        online=Phase(online, ONLINE_STEPS, warmup=1_000),
    )


def _online_row(about: str, algorithm: Unit) -> Recipe:
    return Recipe(
        about, offline=None, handover=unit(handover.fresh),
        online=Phase(algorithm, ONLINE_STEPS, warmup=1_000),
    )  # fmt: skip


_sac_n = unit(
    sac, n=10, target=unit(targets.min_q), order="temperature,actor,critic",
    temperature_of_logarithm=True, log_std_range=(-5.0, 2.0),
    actor_init=unit(edac_init, head=1e-3), critic_init=unit(edac_init, head=3e-3),
)  # fmt: skip
_weighted = unit(targets.weighted_min_pair)
_sunrise = unit(exploration.sunrise)

RECIPES: dict[str, Recipe] = {
    "sac": _online_row("SAC from scratch", unit(sac, n=2, hidden=(256, 256))),
    "scratch": _online_row(
        "ENOTO's online phase from scratch",
        unit(sac, n=10, target=_weighted, exploration=_sunrise),
    ),
    "sac_n": Recipe(
        "SAC-N offline and online (An et al. 2021)",
        offline=Phase(_sac_n, OFFLINE_STEPS),
        handover=unit(handover.carry),
        online=Phase(_sac_n, ONLINE_STEPS, replay=unit(replay.append)),
    ),
    "cql": _cql_row("CQL that keeps its pessimism online", 2, unit(cql, n=2, **_enoto_rates())),
    "cql_to_sac": _cql_row(
        "the pessimistic term dropped at the switch", 2, unit(sac, n=2, **_enoto_rates())
    ),
    "cql_n_to_sac_n": _cql_row(
        "the same with N critics", 10, unit(sac, n=10, target=unit(targets.min_q), **_enoto_rates())
    ),
    "enoto_cql": _cql_row(
        "ENOTO-CQL: N critics, WeightedMinPair, SUNRISE",
        10,
        unit(sac, n=10, target=_weighted, exploration=_sunrise, **_enoto_rates()),
    ),
    "enoto_cql_released": _cql_row(
        "as the authors' released script runs: batch weight, no UCB",
        10,
        unit(
            sac, n=10, target=_weighted, **_enoto_rates(),
            exploration=unit(exploration.sunrise, ucb=None, scope="batch"),
        ),
    ),
    "br": Recipe(
        "Balanced Replay with a pessimistic Q-ensemble (Lee et al. 2021)",
        offline=Phase(
            unit(cql_agents, count=5, n=2, hidden=(256, 256), **_enoto_rates()), OFFLINE_STEPS
        ),
        handover=unit(handover.merge_actors),
        online=Phase(
            unit(
                br, policies=5, n=2, target=unit(targets.independent, group=2),
                actor_value=unit(targets.mean_of_mins, group=2),
            ),
            ONLINE_STEPS, replay=unit(replay.balanced), warmup=1_000, catch_up=10,
        ),
    ),
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The row of that name.

    Raises:
      InputError: there is none; the nearest names are listed.
    """
    if name not in RECIPES:
        raise InputError(f"--method: no row {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]
