"""A recipe: an offline phase, a hand-over, an online phase; built, and checked to fit together.

The table of methods is in `table.py`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax import core, replay, transforms
from enoto_jax.algorithms import contract
from enoto_jax.exploration import policy
from enoto_jax.handover import Handover, Learned, differences
from enoto_jax.nets import networks
from enoto_jax.recipes import units
from enoto_jax.types import InputError, Key, Spec, Transition, check_choice


@dataclasses.dataclass(frozen=True)
class Phase:
    """An algorithm with its data and its budget."""

    algorithm: Annotated[core.AlgorithmConfig, "networks, losses and how to act."]
    steps: Annotated[int, "gradient updates (offline) or environment steps (online)."]
    batch_size: Annotated[
        int, "B, transitions per gradient update (of each agent, where there are several)."
    ] = 256
    replay: Annotated[replay.Replay, "where online batches come from; ignored offline."] = (
        replay.online_only()
    )
    warmup: Annotated[int, "environment steps before the first online update."] = 0
    utd: Annotated[int, "gradient updates per environment step."] = 1
    catch_up: Annotated[
        int,
        "times utd, updates for every step of the warm-up, all at once when it has ended.",
    ] = 0
    random_steps: Annotated[int, "first environment steps with uniform actions."] = 0
    eval_every: Annotated[int, "steps of this phase between two evaluations."] = 1_000
    overlap: Annotated[
        bool,
        "the environments step while the device updates; actions then come from parameters that "
        "are one environment step's updates older (online).",
    ] = False
    envs_backend: Annotated[
        str, "who steps the training environments, gymnasium or envpool (online)."
    ] = "gymnasium"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One method: what an entry of the table is."""

    about: Annotated[str, "one line for the table in the docs."]
    offline: Annotated[Phase | None, "the first phase, or None: online from scratch."]
    handover: Annotated[Handover, "what the online phase starts from."]
    online: Annotated[Phase, "the second phase."]
    transform: Annotated[
        transforms.FitTransform,
        "of observations, actions and rewards, fitted to the data set; of both phases.",
    ] = transforms.transform()
    precision: Annotated[
        str, "that the networks multiply in, float32 or bf16; all else is float32."
    ] = "float32"


class Built(NamedTuple):
    """A recipe whose units are made and fit together."""

    offline: core.Algorithm | None
    handover: Handover
    online: core.Algorithm
    replay: replay.Replay


NEEDS = {"q": "critics", "moments": "Gaussian before tanh"}


def build(recipe: Recipe, spec: Spec) -> Built:
    """Make every unit and check, without compiling anything, that they fit together.

    Args:
      recipe: the method.
      spec: sizes of observations and actions.

    Raises:
      InputError: one line that says which units do not fit and what to change.
    """
    _check_arguments(recipe, spec)
    phases = {"offline": recipe.offline, "online": recipe.online}
    for name, phase in phases.items():
        if phase is not None:
            _check_numbers(name, phase)
    with networks.computing(recipe.precision):
        offline = None if recipe.offline is None else recipe.offline.algorithm.build(spec)
        online = recipe.online.algorithm.build(spec)
    before = None
    if offline is not None and recipe.offline is not None:
        before = contract.check(recipe.offline.algorithm.name, offline, spec)
    expected = contract.check(recipe.online.algorithm.name, online, spec)
    drawn = recipe.online.replay
    if online.chunk is not None:
        _check_chunks(recipe)
        drawn = replay.Chunked(starts=drawn, chunk=online.chunk, capacity=drawn.capacity)
    built = Built(offline, recipe.handover, online, drawn)
    for need in online.exploration.needs:
        check_choice(f"{online.exploration.name}: needs", need, NEEDS)
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
    if online.next_actions:
        raise InputError(
            f"{recipe.online.algorithm.name} needs the next action of new transitions, which no "
            "replay keeps; --set=online.algorithm.critic_cloning=0"
        )
    delay, utd = getattr(recipe.online.algorithm, "actor_delay", 1), recipe.online.utd
    if utd % delay:
        raise InputError(
            f"online.algorithm.actor_delay is {delay}, which does not divide online.utd, {utd}: "
            f"the actor would miss environment steps; --set=online.algorithm.actor_delay={utd}"
        )
    if built.replay.prioritised != (online.priority is not None):
        raise InputError(
            f"--replay: {recipe.online.replay.name} does not fit {recipe.online.algorithm.name}: "
            "balanced draws by the priorities that br alone computes, from batches of balanced"
        )
    _check_shapes(recipe, spec, built, before, expected)
    return built


def _check_arguments(recipe: Any, spec: Any) -> None:
    """Refuse what is no recipe with options of their declared types, or no sizes.

    Raises:
      InputError: it says which argument, and what to give.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(f"recipe: {type(recipe).__name__}; give one, such as recipe('enoto_cql')")
    units.check_types(recipe)
    if not isinstance(spec, Spec) or not all(isinstance(x, int) and x > 0 for x in spec):
        shown = spec if isinstance(spec, tuple) else type(spec).__name__
        raise InputError(f"spec: {shown}; give a source's, or Spec(observation_size, action_size)")


def _check_chunks(recipe: Recipe) -> None:
    """Refuse what takes single transitions beside an algorithm that learns from chunks."""
    name, given = recipe.online.algorithm.name, recipe.online.replay
    if given.prioritised:
        raise InputError(
            f"--replay: {given.name} draws single transitions and {name} learns from chunks; "
            "choose --replay=append, or --set=algorithm.chunk=1 and --set=algorithm.returns=1"
        )
    if recipe.handover.needs_data:
        raise InputError(
            f"handover: {recipe.handover.name} learns from single transitions and {name} from "
            "chunks; choose carry, or --set=algorithm.chunk=1 and --set=algorithm.returns=1"
        )


def hand_over(
    built: Built, key: Key, before: core.TrainState | None, data: Transition | None
) -> core.TrainState:
    """The state that the online phase starts from; the data set for hand-overs that need it."""
    if not built.handover.needs_data:
        return built.handover(key, before, built.online)
    learned = None
    if before is not None and data is not None and built.offline is not None:
        learned = Learned(built.offline, data)
    return built.handover(key, before, built.online, learned)


def _check_shapes(
    recipe: Recipe,
    spec: Spec,
    built: Built,
    before: core.TrainState | None,
    expected: core.TrainState,
) -> None:
    """Evaluate the shapes of both phases' updates and of the hand-over; nothing is computed.

    Args:
      recipe: the method.
      spec: sizes.
      built: its units.
      before: shapes of the offline algorithm's state; None without that phase.
      expected: shapes of the online algorithm's.
    """
    offline, online = built.offline, built.online
    key = jax.eval_shape(lambda: jax.random.key(0))
    rows = offline and jax.eval_shape(lambda: example_transition(spec, offline, 1))
    start = partial(hand_over, built)
    state = jax.eval_shape(start, key, before, rows)
    if not isinstance(state, core.TrainState) or (difference := differences(expected, state)):
        seen = difference if isinstance(state, core.TrainState) else type(state).__name__
        raise InputError(f"{built.handover.name} does not return the online state: {seen}")
    batch = _replayed(recipe, spec, built)
    after = jax.eval_shape(lambda s, b, k: core.update(online, s, b, k)[0], state, batch, key)
    if offline is not None and recipe.offline is not None:
        batch = example_rows(spec, offline, recipe.offline.batch_size)
        jax.eval_shape(lambda s, b, k: core.update(offline, s, b, k)[0], before, batch, key)
    size = spec.action_size * (1 if online.open_loop is None else online.open_loop.length)
    action = jax.eval_shape(lambda s, k: _first_action(online, spec, s, k), state, key)
    contract.check_shape(f"--exploration: {online.exploration.name}.act", action, (size,))
    if difference := differences(state, after):
        raise InputError(f"the hand-over's state is not what the online update keeps: {difference}")


def _replayed(recipe: Recipe, spec: Spec, built: Built) -> Transition:
    """Shapes of a batch of the replay, once it stores and draws what it should."""
    online, rule, count = built.online, built.replay, recipe.online.batch_size
    name, one = recipe.online.replay.name, jax.eval_shape(lambda: example_transition(spec, online))
    stored = jax.eval_shape(
        lambda: replay.Stored(replay.ring.empty(one, rule.capacity), rule.start(1))
    )
    after = jax.eval_shape(
        lambda s, x: rule.insert(s, x, jnp.int32(1), online.monte_carlo), stored, one
    )
    if difference := differences(stored, after):
        raise InputError(f"--replay: {name}.insert changes what is stored: {difference}")
    batch = example_batch(spec, online, rule, count)
    rewards = jnp.shape(getattr(batch, "reward", 0.0))
    if rewards[:1] != (count,):
        raise InputError(
            f"--replay: {name}.sample returns rewards {list(rewards)}; a batch of {count} is needed"
        )
    return batch


def _first_action(algorithm: core.Algorithm, spec: Spec, state: core.TrainState, key):
    rule = algorithm.exploration
    memory = rule.reset(key, algorithm.critics)
    return rule.act(key, algorithm, state, memory, jnp.zeros(spec.observation_size))


def example_transition(spec: Spec, algorithm: core.Algorithm, count: int | None = None):
    """Zeros shaped as the online phase stores a transition ([count, ...] if given)."""
    lead = () if count is None else (count,)
    extras = {}
    if algorithm.exploration.masks:
        extras["mask"] = jnp.ones((*lead, algorithm.critics))
    if algorithm.monte_carlo is not None:
        extras["mc_return"] = jnp.zeros(lead)
    if algorithm.next_actions:
        extras["next_action"] = jnp.zeros((*lead, spec.action_size))
    return Transition(
        observation=jnp.zeros((*lead, spec.observation_size)),
        action=jnp.zeros((*lead, spec.action_size)),
        reward=jnp.zeros(lead),
        terminated=jnp.zeros(lead, bool),
        truncated=jnp.zeros(lead, bool),
        next_observation=jnp.zeros((*lead, spec.observation_size)),
        extras=extras,
    )


def example_data(spec: Spec, algorithm: core.Algorithm, rows: int) -> Transition:
    """Zeros shaped as a data set, with what it carries beside its transitions."""
    data = example_transition(spec, algorithm, rows)
    if algorithm.chunk is None:
        return data
    return data._replace(extras={**data.extras, "ends": jnp.zeros(rows, bool)})


def example_rows(spec: Spec, algorithm: core.Algorithm, count: int):
    """Shapes of what an offline update gets: `count` transitions or chunks for each batch."""

    def draw():
        data = example_data(spec, algorithm._replace(exploration=policy()), 1)
        many = count * algorithm.batches
        return replay.chunks.sample(data, jax.random.key(0), many, jnp.int32(1), algorithm.chunk)

    return jax.eval_shape(draw)


def example_batch(spec: Spec, algorithm: core.Algorithm, policy: replay.Replay, count: int):
    """Shapes of what an online update gets: `count` transitions and the replay's own extras."""

    def draw():
        one = example_transition(spec, algorithm)
        stored = replay.Stored(replay.ring.empty(one, policy.capacity), policy.start(1))
        data = example_data(spec, algorithm, 1)
        return policy.sample(stored, data, jax.random.key(0), count, jnp.int32(1))

    return jax.eval_shape(draw)


def switch(recipe: Recipe) -> list[str]:
    """What changes from the offline to the online phase, a line each; for people to read."""
    if recipe.offline is None:
        return []
    old, new = recipe.offline.algorithm, recipe.online.algorithm
    lines = [f"the switch: {recipe.handover}", f"  loss: {old.name} -> {new.name}"]
    for name, default in (("target", "min_q()"), ("exploration", "policy()")):
        before, after = (str(getattr(unit, name, default)) for unit in (old, new))
        lines.append(f"  {name}: {after}" + (f" (was {before})" if before != after else ""))
    replay = f"  replay: {recipe.online.replay}, first update after {recipe.online.warmup:,} steps"
    burst = recipe.online.catch_up * recipe.online.warmup * recipe.online.utd
    return [*lines, replay + (f", {burst:,} at once" if burst else "")]


def _check_numbers(name: str, phase: Phase) -> None:
    least = {"batch_size": 1, "utd": 1, "eval_every": 1}
    least |= dict.fromkeys(("steps", "warmup", "catch_up", "random_steps"), 0)
    for field, bound in least.items():
        value = getattr(phase, field)
        if not isinstance(value, int) or not bound <= value < 1 << 31:  # counted in int32
            raise InputError(
                f"{name}.{field} is {value!r}; give a whole number, at least {bound}, below 2^31"
            )
