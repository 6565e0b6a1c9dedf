"""Count the floating-point operations that one update needs, in matrix products only.

A product of [m, k] and [k, n] counts 2 m k n. What an implementation computes twice is counted
once: one actor pass per state, one pass of the candidates' observation part, and the gradient of a
minimum over critics goes back through one critic per transition. A delayed network counts by its
share of the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.awac import awac
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.bellman import best_of
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.edac import edac
from enoto_jax.algorithms.fql import fql
from enoto_jax.algorithms.iql import iql
from enoto_jax.algorithms.lapo import lapo
from enoto_jax.algorithms.pex import pex
from enoto_jax.algorithms.qc import qc
from enoto_jax.algorithms.rebrac import rebrac
from enoto_jax.algorithms.sac import sac
from enoto_jax.algorithms.td3 import td3, td3_bc
from enoto_jax.exploration import sunrise
from enoto_jax.recipes import units
from enoto_jax.targets import first_q, random_min_pair
from enoto_jax.types import InputError, Spec, Unit

Options = Mapping[str, Any]


def per_update(algorithm: Unit, spec: Spec, batch_size: int) -> int:
    """Return the operations of one update of one seed.

    Args:
      algorithm: The unit, with its options.
      spec: Sizes of observations and actions.
      batch_size: B, for each agent if there are several.

    Raises:
      InputError: The algorithm, or an option that changes its ensemble, is not counted here.
    """
    options = units.children(algorithm)
    if changed := [
        name for name in ("learners", "shared_layers", "penalty_rows") if options.get(name)
    ]:
        raise InputError(f"{changed[0]}: its operations are not counted; see benchmarks/levers.py")
    if type(algorithm) not in COUNTS:
        raise InputError(f"{algorithm.name}: its operations are not counted; see flops.py")
    return COUNTS[type(algorithm)](units.children(algorithm), spec) * batch_size


def _forward(*sizes: int) -> int:
    """One row's pass through an MLP of these widths."""
    return sum(2 * m * n for m, n in pairwise(sizes))


def _learn(*sizes: int) -> int:
    """Forward pass, and gradients of the weights and of all inputs but the first layer's."""
    return 3 * _forward(*sizes) - _forward(*sizes[:2])


def _critic_sizes(options: Options, spec: Spec) -> Sequence[int]:
    hidden = options.get("critic_hidden") or options["hidden"]
    return (sum(spec), *hidden, 1)


def _to_action(options: Options, spec: Spec) -> int:
    """The part of a critic's pass that depends on the action; the rest can be shared."""
    sizes = _critic_sizes(options, spec)
    return _forward(*sizes) - 2 * spec.observation_size * sizes[1]


def _actor_critic(
    options: Options, spec: Spec, actor: Sequence[int], value: str, every: int
) -> int:
    """An actor that follows its critics, and critics that bootstrap from it."""
    n, critic = options["n"], _critic_sizes(options, spec)
    to_action = _to_action(options, spec)
    rule, backup = options["target"], options.get("backup")
    drawn = rule.m if isinstance(rule, random_min_pair) else n
    if isinstance(options["exploration"], sunrise):
        drawn = n  # its weight needs all critics
    actions = backup.k if isinstance(backup, best_of) else 1
    next_q = drawn * (_forward(*critic) + (actions - 1) * to_action)
    # The actor's loss: forward through the critics that it reads, back through the chosen ones.
    groups = options.get("policies", 1)
    read, chosen = {"mean_q": (n, n), "first_q": (1, 1), "mean_of_mins": (n, groups)}.get(
        value, (n, 1)
    )
    learn = groups * _learn(*actor) + read * _forward(*critic) + chosen * to_action
    return groups * _forward(*actor) + next_q + n * _learn(*critic) + learn // every


def _sac(options: Options, spec: Spec) -> int:
    actor = (spec.observation_size, *options["hidden"], 2 * spec.action_size)
    value = options["actor_value"].name
    return _actor_critic(options, spec, actor, value, options["actor_delay"])


def _cql(options: Options, spec: Spec) -> int:
    sizes, (_, a) = _critic_sizes(options, spec), spec
    first, action_part = _forward(*sizes[:2]), 2 * a * sizes[1]
    one = 3 * (_forward(*sizes) - first) + 2 * action_part
    candidates = 3 * options["candidates"] * one + 2 * (first - action_part)
    return _sac(options, spec) + options["n"] * candidates


def _cql_agents(options: Options, spec: Spec) -> int:
    return options["count"] * _cql(options, spec)


def _edac(options: Options, spec: Spec) -> int:
    # Back to the action, then the gradients of that pass for the weights and for its input.
    return _sac(options, spec) + 3 * options["n"] * _to_action(options, spec)


def _br(options: Options, spec: Spec) -> int:
    whole = {**options, "n": options["policies"] * options["n"]}
    ratio = _critic_sizes(options, spec)  # learns on two batches, gives priorities to a third
    return _sac(whole, spec) + 2 * _learn(*ratio) + _forward(*ratio)


def _td3(options: Options, spec: Spec) -> int:
    actor = (spec.observation_size, *options["hidden"], spec.action_size)
    value = options["actor_value"].name
    return _actor_critic(options, spec, actor, value, options["delay"])


def _bc(options: Options, spec: Spec) -> int:
    return _learn(spec.observation_size, *options["hidden"], spec.action_size)


def _two_actions(options: Options, spec: Spec) -> int:
    """The critics at two actions of one state."""
    return options["n"] * (_forward(*_critic_sizes(options, spec)) + _to_action(options, spec))


def _awac(options: Options, spec: Spec) -> int:
    n, critic = options["n"], _critic_sizes(options, spec)
    actor = _forward(spec.observation_size, *options["hidden"], spec.action_size)
    next_q = actor + n * _forward(*critic)
    return _bc(options, spec) + n * _learn(*critic) + next_q + _two_actions(options, spec)


def _iql(options: Options, spec: Spec) -> int:
    n, critic = options["n"], _critic_sizes(options, spec)
    value = (spec.observation_size, *options["hidden"], 1)
    # V again after its step, at both states; V and the actor share the targets' Q of the data.
    values = _learn(*value) + 2 * _forward(*value) + n * _forward(*critic)
    total = _bc(options, spec) + n * _learn(*critic) + values
    if isinstance(options["exploration"], sunrise):
        actor = (spec.observation_size, *options["hidden"], spec.action_size)
        total += _forward(*actor) + n * _forward(*critic)
    return total


def _pex(options: Options, spec: Spec) -> int:
    total = _iql(options, spec)
    if options["actor_actions"] == "composite":
        actor = _forward(spec.observation_size, *options["hidden"], spec.action_size)
        critics = options["n"] * _forward(*_critic_sizes(options, spec))
        total += actor + _two_actions(options, spec) + critics
    return total


def _lapo(options: Options, spec: Spec) -> int:
    (d, a), hidden, n = spec, options["hidden"], options["n"]
    latent, critic = 2 * a, _critic_sizes(options, spec)
    actor, value, decoder = (d, *hidden, latent), (d, *hidden, 1), (d + latent, *hidden, a)
    encoder = (d + a, *hidden, 2 * latent)
    # At both states: the target policy's latent, its decoding, and the target critics' values.
    judged = 2 * (_forward(*actor) + _forward(*decoder) + n * _forward(*critic))
    values = _forward(*value) + _learn(*value)
    cvae = _learn(*encoder) + 3 * _forward(*decoder) - 2 * d * hidden[0]
    read = 1 if isinstance(options["actor_value"], first_q) else n
    follow = _learn(*actor) + 2 * _forward(*decoder) - 2 * d * hidden[0]
    follow += read * _forward(*critic) + _to_action(options, spec)
    return judged + values + n * _learn(*critic) + cvae + follow


def _chunked(options: Options, spec: Spec) -> Spec:
    return spec._replace(action_size=options["chunk"] * spec.action_size)


def _fql(options: Options, spec: Spec) -> int:
    spec = _chunked(options, spec)
    (d, a), hidden, n = spec, options["hidden"], options["n"]
    critic, to_action = _critic_sizes(options, spec), _to_action(options, spec)
    flow, actor = (d + a + 1, *hidden, a), (d + a, *hidden, a)
    actions = options["backup"].k if isinstance(options["backup"], best_of) else 1
    # The observation's part of a product is computed once for all Euler steps and candidates.
    shared = 2 * d * hidden[0]
    euler = options["flow_steps"] * (_forward(*flow) - shared) + shared
    following = actions * (_forward(*actor) - shared + n * to_action) + shared
    following += n * (_forward(*critic) - to_action)
    chosen = n if options["actor_value"].name == "mean_q" else 1
    climb = n * _forward(*critic) + chosen * to_action
    return following + n * _learn(*critic) + _learn(*flow) + euler + _learn(*actor) + climb


def _qc(options: Options, spec: Spec) -> int:
    """The flow and the critics learn; the critics choose among flows at the next state."""
    spec = _chunked(options, spec)
    (d, a), hidden, n = spec, options["hidden"], options["n"]
    critic, to_action = _critic_sizes(options, spec), _to_action(options, spec)
    flow, shared = (d + a + 1, *hidden, a), 2 * d * hidden[0]
    actions = options["backup"].k if isinstance(options["backup"], best_of) else 1
    candidates = actions * options["candidates"]
    euler = candidates * options["flow_steps"] * (_forward(*flow) - shared) + shared
    choice = n * (candidates * to_action + _forward(*critic) - to_action)
    value = n * (actions * to_action + _forward(*critic) - to_action)
    return euler + choice + value + n * _learn(*critic) + _learn(*flow)


COUNTS: Mapping[type, Callable[[Options, Spec], int]] = {
    sac: _sac,
    cql: _cql,
    cql_agents: _cql_agents,
    edac: _edac,
    br: _br,
    td3: _td3,
    td3_bc: _td3,
    bc: _bc,
    awac: _awac,
    iql: _iql,
    pex: _pex,
    lapo: _lapo,
    rebrac: _td3,
    fql: _fql,
    qc: _qc,
}
