"""Hand-overs: what the online phase starts from. Pure functions from state to state.

What a hand-over returns is checked against the structure that the online update expects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from enoto_jax import core
from enoto_jax.types import Array, InputError, Key, Params, Transition, Unit

OFFLINE_ACTOR = "offline_actor"  # the frozen network that expand_policy fills


class Handover(Unit):
    """A pure function from the offline state to the online one.

    Attributes:
      needs_data: Whether it is called with what the offline phase learned from.
    """

    needs_data = False

    def __call__(
        self,
        key: Key,
        offline: core.TrainState | None,
        algorithm: core.Algorithm,
        learned: Learned | None = None,
    ) -> core.TrainState:
        """Return the online state.

        Args:
          key: The random key for newly initialised parameters.
          offline: The state at the end of the offline phase; None without one.
          algorithm: The online phase's algorithm.
          learned: What the offline phase learned from; given only if `needs_data`.

        Raises:
          InputError: The two phases' networks do not fit.
        """
        raise NotImplementedError


class Learned(NamedTuple):
    """The offline phase that a hand-over learns from.

    Attributes:
      algorithm: The phase's algorithm, which evaluates its networks.
      data: The phase's transitions [M, ...], as the agent sees them.
    """

    algorithm: core.Algorithm
    data: Transition


class carry(Handover):
    """Keep parameters, targets, optimiser states and temperature; drop what is not used online.

    This is what ENOTO does: its released code loads every network and every optimiser. Learning
    rates are those of the online phase's algorithm.
    """

    def __call__(self, key, offline, algorithm, learned=None):
        if offline is None:
            raise InputError("carry: there is no offline phase to carry from; use fresh")
        expected = jax.eval_shape(lambda k: core.init(algorithm, k), key)
        kept = {
            part: _kept(self.name, part, offline, getattr(expected, part))
            for part in ("params", "targets", "opt_states")
        }
        state = offline.replace(**kept, frozen={}, step=jnp.int32(0))
        return _fitting(self.name, expected, state)


class expand_policy(Handover):
    """Freeze the offline policy and add a new one; keep critics, their targets and V (PEX).

    The optimisers are reset, as in the authors' code, which loads only networks.
    """

    def __call__(self, key, offline, algorithm, learned=None):
        if offline is None:
            raise InputError("expand_policy: there is no offline phase to expand; use fresh")
        start = core.init(algorithm, key)
        if set(start.frozen) != {OFFLINE_ACTOR}:
            raise InputError(
                "expand_policy: the online algorithm has no place for a frozen policy; choose pex, "
                "or carry"
            )
        others = {name: x for name, x in start.params.items() if name != "actor"}
        actor = _kept(self.name, "params", offline, {"actor": start.params["actor"]})
        state = start.replace(
            params={**start.params, **_kept(self.name, "params", offline, others)},
            targets=_kept(self.name, "targets", offline, start.targets),
            frozen={OFFLINE_ACTOR: actor["actor"]},
        )
        return _fitting(self.name, start, state)


class merge_actors(Handover):
    """Merge independent agents: their actors become a mixture, their critics one ensemble.

    The targets start as copies of the critics; optimisers, temperature and every other network
    are reset (balanced replay).
    """

    def __call__(self, key, offline, algorithm, learned=None):
        if offline is None:
            raise InputError("merge_actors: there is no offline phase to merge; use fresh")
        state = core.init(algorithm, key)
        agents = _kept(self.name, "params", offline, dict.fromkeys(("actor", "critic")))
        members = {"params": {"members": agents["actor"]["params"]}}
        critics = jax.tree.map(lambda x: jnp.reshape(x, (-1, *x.shape[2:])), agents["critic"])
        merged = state.replace(
            params={**state.params, "actor": members, "critic": critics},
            targets={**state.targets, "critic": jax.tree.map(jnp.copy, critics)},
        )
        if difference := differences(state, merged):
            raise InputError(
                f"merge_actors: the offline agents do not fit the online mixture: {difference}; it "
                "needs as many policies as there are agents, with the same n and hidden"
            )
        return merged


class distil(Handover):
    """Fit the online phase's critics, of any number and width, to the offline ones; keep the rest.

    Critic j of M learns mean_i Q_i + offset_j delta, where delta is the teachers' mean pairwise
    distance, at the data's actions, the policy's and uniform ones. The offsets are evenly spaced
    around 0, with a mean pairwise distance of 1. The students therefore keep the teachers' mean and
    spread, and the minimum of two students is WeightedMinPair of the teachers. Students as large as
    the teachers start as the first M of them: the effect of an action is small next to Q itself,
    and a fit from random parameters loses it. Targets are copies, and the critics' optimiser is
    reset.
    """

    needs_data = True

    steps: Annotated[int, "gradient updates of the fit."] = 20_000
    batch_size: Annotated[int, "transitions per update, each with three actions."] = 256
    rate: Annotated[float, "Adam's learning rate."] = 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.batch_size) < 1:
            raise InputError(
                f"distil: steps is {self.steps} and batch_size {self.batch_size}; both must be at "
                "least 1"
            )

    def __call__(self, key, offline, algorithm, learned=None):
        if offline is None or learned is None:
            raise InputError("distil: there is no offline phase, or no data, to learn from")
        if learned.algorithm.q is None or algorithm.q is None:
            raise InputError("distil: both phases need critics; choose carry, or fresh")
        init_key, fit_key = jax.random.split(key)
        start = core.init(algorithm, init_key)
        if start.frozen:
            raise InputError(
                "distil: it cannot fill the online algorithm's frozen policy; choose expand_policy"
            )
        parts = {}
        for part in ("params", "targets", "opt_states"):
            others = {k: x for k, x in getattr(start, part).items() if k != "critic"}
            parts[part] = {**getattr(start, part), **_kept(self.name, part, offline, others)}
        teachers = offline.params["critic"]
        parts["params"]["critic"] = _first(teachers, start.params["critic"])
        state = _fitting(self.name, start, start.replace(**parts))
        critics = self._fitted(fit_key, teachers, state, algorithm, learned)
        return state.replace(
            params={**state.params, "critic": critics},
            targets={**state.targets, "critic": jax.tree.map(jnp.copy, critics)},
        )

    def _fitted(self, key, teachers, state, algorithm, learned) -> Params:
        """Return the critics' parameters after the fit."""
        optimiser, data = optax.adam(self.rate), learned.data

        def loss(params, observation, action):
            values = learned.algorithm.q(teachers, observation, action)
            students = algorithm.q(params, observation, action)
            wanted = spread_out(values, students.shape[0])
            return jnp.sum(jnp.mean(jnp.square(students - wanted), axis=(1, 2)))

        def chosen(key, observation):
            return algorithm.act(state, key, observation, 1)[0]

        def step(carried, key):
            params, moments = carried
            rows_key, act_key, uniform_key = jax.random.split(key, 3)
            rows = jax.random.randint(rows_key, (self.batch_size,), 0, len(data.reward))
            observation, recorded = data.observation[rows], data.action[rows]
            own = jax.vmap(chosen)(jax.random.split(act_key, self.batch_size), observation)
            uniform = jax.random.uniform(uniform_key, recorded.shape, minval=-1.0, maxval=1.0)
            actions = jnp.stack([recorded, own, uniform])
            grads = jax.grad(loss)(params, observation, actions)
            changes, moments = optimiser.update(grads, moments, params)
            return (optax.apply_updates(params, changes), moments), None

        start = (state.params["critic"], optimiser.init(state.params["critic"]))
        (params, _), _ = jax.lax.scan(step, start, jax.random.split(key, self.steps))
        return params


def _first(teachers: Params, students: Params) -> Params:
    """Return the first M of N teachers if their sizes are the students'; else the students."""
    have, wanted = traverse_util.flatten_dict(teachers), traverse_util.flatten_dict(students)
    shapes = {name: x.shape for name, x in wanted.items()}
    found = {
        name: x[: len(wanted[name])] if name in wanted and x.shape != shapes[name] else x
        for name, x in have.items()
    }
    same = {name: x.shape for name, x in found.items()} == shapes
    return traverse_util.unflatten_dict(found) if same else students


def spread_out(q: Array, m: int) -> Array:
    """Return m values [m, ...] with the mean and, for m > 1, mean pairwise distance of q [N, ...].

    They are evenly spaced; a single value is the mean.
    """
    n = q.shape[0]
    ranks = np.arange(1 - n, n, 2) / max(n * (n - 1) / 2, 1)
    delta = jnp.tensordot(jnp.asarray(ranks, q.dtype), jnp.sort(q, axis=0), axes=1)
    # The mean pairwise distance of m points a distance apart is (m + 1) / 3 of that distance.
    offsets = jnp.asarray((np.arange(m) - (m - 1) / 2) * 3 / (m + 1), q.dtype)
    return jnp.mean(q, axis=0) + offsets.reshape(-1, *(1,) * delta.ndim) * delta


class fresh(Handover):
    """Start from new parameters and ignore the offline phase."""

    def __call__(self, key, offline, algorithm, learned=None):
        return core.init(algorithm, key)


def _kept(unit: str, part: str, offline: core.TrainState, wanted: Mapping) -> dict:
    """Return the wanted entries of one part of the offline state; all of them must be there."""
    have = getattr(offline, part)
    missing = sorted(set(wanted) - set(have))
    if missing:
        raise InputError(
            f"{unit}: the offline phase has no {part} of {', '.join(missing)}, which the "
            "online algorithm needs; choose a hand-over that makes them, or fresh"
        )
    return {name: have[name] for name in wanted}


def _fitting(unit: str, expected: core.TrainState, state: core.TrainState) -> core.TrainState:
    """Return the state, after checking that it has the expected structure."""
    if difference := differences(expected, state):
        raise InputError(f"{unit}: the two phases' networks differ: {difference}")
    return state


def differences(expected, found) -> str:
    """Describe the first differences of two pytrees' paths, shapes and dtypes; "" if equal."""

    def flat(tree):
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in leaves}

    want, have = flat(expected), flat(found)
    lines = [f"{p} is missing" for p in want if p not in have]
    lines += [f"{p} is not used" for p in have if p not in want]
    lines += [
        f"{p} is {have[p].dtype}{list(have[p].shape)}, expected {x.dtype}{list(x.shape)}"
        for p, x in want.items()
        if p in have and (have[p].shape, have[p].dtype) != (x.shape, x.dtype)
    ]
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
