"""How many floating-point operations the mathematics of one update needs, in matrix products alone.

A product of [m, k] and [k, n] counts 2 m k n. What an implementation computes twice is counted
once: one actor pass per state, one pass of a candidate's observation part, and the gradient of a
minimum over critics goes back through one critic per transition.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.edac import edac
from enoto_jax.algorithms.td3 import td3, td3_bc
from enoto_jax.types import Spec
from enoto_jax.units import Unit


def _layers(sizes: Sequence[int]) -> int:
    """One row's forward pass through an MLP of these widths."""
    return sum(2 * m * n for m, n in pairwise(sizes))


def per_update(algorithm: Unit, spec: Spec, batch_size: int) -> int:
    """Operations of one update of `sac`, `cql`, `edac`, `td3` or `td3_bc` on one seed, in the mean.

    Args:
      algorithm: the unit, with its arguments.
      spec: sizes of observations and actions.
      batch_size: B.
    """
    options = algorithm.resolved()
    n, hidden = options["n"], tuple(options["hidden"])
    d, a = spec
    critic = _layers((d + a, *hidden, 1))
    first = 2 * (d + a) * hidden[0]
    deterministic = algorithm.make in (td3, td3_bc)
    actor = _layers((d, *hidden, a if deterministic else 2 * a))
    actor_first = 2 * d * hidden[0]
    # Forward, gradient of the weights, gradient of the inputs (not needed below the first layer).
    learn_critic = 3 * critic - first
    learn_actor = 3 * actor - actor_first
    rule = options["target"]
    drawn = rule.resolved()["m"] if rule is not None and rule.name == "random_min_pair" else n
    if options["exploration"] is not None and options["exploration"].name == "sunrise":
        drawn = n  # its weight looks at all critics
    value = options["actor_value"] and options["actor_value"].name
    if value is None and deterministic:
        value = "first_q"
    # To the actor's loss: the critics it reads forward, back through the chosen one to the action.
    forward, backward = {"mean_q": (n, n), "first_q": (1, 1)}.get(value, (n, 1))
    actor_loss = forward * critic + backward * (critic - 2 * d * hidden[0])
    every = options["delay"] if deterministic else 1
    total = actor + drawn * critic + n * learn_critic + (learn_actor + actor_loss) // every
    if algorithm.make is edac:
        # Back to the action, and that pass's own gradient of the weights and of what came down.
        total += n * 3 * (critic - 2 * d * hidden[0])
    if algorithm.make is cql:
        candidates = 3 * options["candidates"]
        action_part = 2 * a * hidden[0]
        one = 3 * (critic - first) + 2 * action_part
        total += n * (candidates * one + 2 * (first - action_part))
    return total * batch_size
