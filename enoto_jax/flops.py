"""How many floating-point operations the mathematics of one update needs, in matrix products alone.

A product of [m, k] and [k, n] counts 2 m k n. What an implementation computes twice is counted
once: one actor pass per state, one pass of a candidate's observation part, and the gradient of a
minimum over critics goes back through one critic per transition.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.awac import awac
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.iql import iql
from enoto_jax.algorithms.pex import pex
from enoto_jax.types import Spec
from enoto_jax.units import Unit


def _layers(sizes: Sequence[int]) -> int:
    """One row's forward pass through an MLP of these widths."""
    return sum(2 * m * n for m, n in pairwise(sizes))


def per_update(algorithm: Unit, spec: Spec, batch_size: int) -> int:
    """Operations of one update of a SAC or CQL on one seed: all agents, delayed networks by share.

    Args:
      algorithm: the unit, with its arguments.
      spec: sizes of observations and actions.
      batch_size: B.
    """
    options = algorithm.resolved()
    if algorithm.make in (bc, awac, iql, pex):
        return _in_sample(algorithm, spec) * batch_size
    policies, n, hidden = options["policies"], options["n"], tuple(options["hidden"])
    n, groups = (policies * n, policies) if algorithm.make is br else (n, 1)
    critic_hidden = tuple(options["critic_hidden"] or hidden)
    d, a = spec
    critic = _layers((d + a, *critic_hidden, 1))
    first = 2 * (d + a) * critic_hidden[0]
    observation_part = 2 * d * critic_hidden[0]
    actor = policies * _layers((d, *hidden, 2 * a))
    actor_first = policies * 2 * d * hidden[0]
    # Forward, gradient of the weights, gradient of the inputs (not needed below the first layer).
    learn_critic = 3 * critic - first
    learn_actor = 3 * actor - actor_first
    rule = options["target"]
    drawn = rule.resolved()["m"] if rule is not None and rule.name == "random_min_pair" else n
    if options["exploration"] is not None and options["exploration"].name == "sunrise":
        drawn = n  # its weight looks at all critics
    mean_value = options["actor_value"] is not None and options["actor_value"].name == "mean_q"
    # To the actor's loss: all critics forward, back through the chosen one to the action.
    actor_loss = n * critic + (n if mean_value else groups) * (critic - observation_part)
    backup = options["backup"]
    actions = backup.resolved()["k"] if backup is not None and backup.name == "best_of" else 1
    next_q = drawn * (observation_part + actions * (critic - observation_part))
    total = actor + next_q + n * learn_critic
    total += (learn_actor + actor_loss) // options["actor_delay"]  # on average
    if algorithm.make is br:  # the density ratio of two batches, and a third's priorities
        total += 2 * learn_critic + critic
    if algorithm.make in (cql, cql_agents):
        candidates = 3 * options["candidates"]
        action_part = 2 * a * critic_hidden[0]
        one = 3 * (critic - first) + 2 * action_part
        total += n * (candidates * one + 2 * (first - action_part))
    return total * batch_size * options.get("count", 1)


def _in_sample(algorithm: Unit, spec: Spec) -> int:
    """One transition's part of an update of the algorithms that clone the data's actions."""
    options = algorithm.resolved()
    hidden, (d, a) = tuple(options["hidden"]), spec
    actor, value, critic = (
        _layers(sizes) for sizes in ((d, *hidden, a), (d, *hidden, 1), (d + a, *hidden, 1))
    )
    shared = 2 * d * hidden[0]  # the observation's part of a first layer
    learn_actor, learn_value = 3 * actor - shared, 3 * value - shared
    if algorithm.make is bc:
        return learn_actor
    n, rule = options["n"], options["exploration"]
    learn_critics = n * (3 * critic - 2 * (d + a) * hidden[0])
    next_action = actor + n * critic
    if algorithm.make is awac:  # the advantage: two actions of one state
        return learn_actor + learn_critics + next_action + n * (2 * critic - shared)
    # V anew after its step, at both states; the targets at the data's action serve V and the actor.
    total = learn_actor + learn_critics + learn_value + 2 * value + n * critic
    if rule is not None and rule.name == "sunrise":
        total += next_action
    if algorithm.make is pex and options["actor_actions"] == "composite":
        total += actor + n * (2 * critic - shared) + n * critic
    return total
