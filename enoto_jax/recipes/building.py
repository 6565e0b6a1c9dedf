"""Build a recipe: make its units, and check without compiling anything that they fit together."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from enoto_jax import core, replay
from enoto_jax.algorithms import contract
from enoto_jax.handover import differences
from enoto_jax.nets import networks
from enoto_jax.recipes import examples, units
from enoto_jax.recipes.recipe import Built, Phase, Recipe, hand_over
from enoto_jax.types import InputError, Spec, Transition, check_choice

NEEDS = {"q": "critics", "moments": "Gaussian before tanh"}


def build(recipe: Recipe, spec: Spec) -> Built:
    """Make every unit and check, without compiling anything, that they fit together.

    Args:
      recipe: The method.
      spec: Sizes of observations and actions.

    Raises:
      InputError: Units do not fit together; the message names them and says what to change, in one
        line.
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
    _check_units(recipe, built)
    _check_shapes(recipe, spec, built, before, expected)
    return built


def _check_arguments(recipe: Any, spec: Any) -> None:
    """Refuse a recipe whose options do not have their declared types, and invalid sizes.

    Raises:
      InputError: An argument is invalid; the message says which, and what to give.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(f"recipe: {type(recipe).__name__}; give one, such as recipe('enoto_cql')")
    units.check_types(recipe)
    if not isinstance(spec, Spec) or not all(isinstance(x, int) and x > 0 for x in spec):
        shown = spec if isinstance(spec, tuple) else type(spec).__name__
        raise InputError(
            f"spec: {shown}; give a source's spec, or Spec(observation_size, action_size)"
        )


def _check_numbers(name: str, phase: Phase) -> None:
    least = {"batch_size": 1, "utd": 1, "eval_every": 1}
    least |= dict.fromkeys(("steps", "warmup", "catch_up", "random_steps"), 0)
    for field, bound in least.items():
        value = getattr(phase, field)
        if not isinstance(value, int) or not bound <= value < 1 << 31:  # counted in int32
            raise InputError(
                f"{name}.{field} is {value!r}; give a whole number of at least {bound}, below 2^31"
            )


def _check_chunks(recipe: Recipe) -> None:
    """Refuse units that take single transitions if the algorithm learns from chunks."""
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


def _check_units(recipe: Recipe, built: Built) -> None:
    """Refuse units of the online phase that lack what another one needs."""
    online = built.online
    if online.batches > 1:
        raise InputError(
            f"online.algorithm: {recipe.online.algorithm.name} trains only offline, because no "
            "replay draws a batch for each agent; choose br"
        )
    for need in online.exploration.needs:
        check_choice(f"{online.exploration.name}: needs", need, NEEDS)
        if getattr(online, need) is None:
            raise InputError(
                f"--exploration: {online.exploration.name} needs the online algorithm's "
                f"{NEEDS[need]}, which {recipe.online.algorithm.name} does not have; choose another"
            )
    if online.monte_carlo is not None and not built.replay.returns:
        raise InputError(
            f"{recipe.online.algorithm.name} needs the returns of new episodes, which the replay "
            f"{recipe.online.replay.name} does not keep; choose --replay=whole_episodes"
        )
    if online.next_actions:
        raise InputError(
            f"{recipe.online.algorithm.name} needs the next action of new transitions, which no "
            "replay keeps; use --set=online.algorithm.critic_cloning=0"
        )
    delay, utd = getattr(recipe.online.algorithm, "actor_delay", 1), recipe.online.utd
    if utd % delay:
        raise InputError(
            f"online.algorithm.actor_delay is {delay}, which does not divide online.utd, {utd}: "
            f"the actor would miss environment steps; use --set=online.algorithm.actor_delay={utd}"
        )
    if built.replay.prioritised != (online.priority is not None):
        raise InputError(
            f"--replay: {recipe.online.replay.name} does not fit {recipe.online.algorithm.name}: "
            "only br computes the priorities that balanced needs; use the two together"
        )


def _check_shapes(
    recipe: Recipe,
    spec: Spec,
    built: Built,
    before: core.TrainState | None,
    expected: core.TrainState,
) -> None:
    """Evaluate the shapes of both phases' updates and of the hand-over, without computing them.

    Args:
      recipe: The method.
      spec: Sizes of observations and actions.
      built: The recipe's units.
      before: Shapes of the offline algorithm's state; None without an offline phase.
      expected: Shapes of the online algorithm's state.
    """
    offline, online = built.offline, built.online
    key = jax.eval_shape(lambda: jax.random.key(0))
    rows = offline and jax.eval_shape(lambda: examples.transition(spec, offline, 1))
    start = partial(hand_over, built)
    state = jax.eval_shape(start, key, before, rows)
    if not isinstance(state, core.TrainState) or (difference := differences(expected, state)):
        seen = difference if isinstance(state, core.TrainState) else type(state).__name__
        raise InputError(f"{built.handover.name} must return the online algorithm's state: {seen}")
    batch = _replayed(recipe, spec, built)
    after = jax.eval_shape(lambda s, b, k: core.update(online, s, b, k)[0], state, batch, key)
    if offline is not None and recipe.offline is not None:
        batch = examples.rows(spec, offline, recipe.offline.batch_size)
        jax.eval_shape(lambda s, b, k: core.update(offline, s, b, k)[0], before, batch, key)
    size = spec.action_size * (1 if online.open_loop is None else online.open_loop.length)
    action = jax.eval_shape(lambda s, k: _first_action(online, spec, s, k), state, key)
    contract.check_shape(f"--exploration: {online.exploration.name}.act", action, (size,))
    if difference := differences(state, after):
        raise InputError(f"an online update changes the structure of the state: {difference}")


def _replayed(recipe: Recipe, spec: Spec, built: Built) -> Transition:
    """Return the shapes of a replay's batch, after checking what it stores and draws."""
    online, rule, count = built.online, built.replay, recipe.online.batch_size
    name, one = recipe.online.replay.name, jax.eval_shape(lambda: examples.transition(spec, online))
    stored = jax.eval_shape(lambda: examples.stored(spec, online, rule))
    after = jax.eval_shape(
        lambda s, x: rule.insert(s, x, jnp.int32(1), online.monte_carlo), stored, one
    )
    if difference := differences(stored, after):
        raise InputError(
            f"--replay: {name}.insert changes the structure of what is stored: {difference}"
        )
    batch = examples.batch(spec, online, rule, count)
    rewards = jnp.shape(getattr(batch, "reward", 0.0))
    if rewards[:1] != (count,):
        raise InputError(
            f"--replay: {name}.sample returns rewards {list(rewards)}; expected a batch of {count}"
        )
    return batch


def _first_action(algorithm: core.Algorithm, spec: Spec, state: core.TrainState, key):
    rule = algorithm.exploration
    memory = rule.reset(key, algorithm.critics)
    return rule.act(key, algorithm, state, memory, jnp.zeros(spec.observation_size))
