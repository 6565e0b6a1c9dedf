"""Hand-overs: what the online phase starts from. Pure functions from state to state.

The structure of what a hand-over returns is compared with what the online update expects.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from enoto_jax import core
from enoto_jax.types import InputError, Key, Unit

OFFLINE_ACTOR = "offline_actor"  # the frozen network that expand_policy fills


class Handover(Unit):
    """A pure function from the offline state to the online one."""

    def __call__(
        self, key: Key, offline: core.TrainState | None, algorithm: core.Algorithm
    ) -> core.TrainState:
        """The online state.

        Args:
          key: for what starts anew.
          offline: the end of the offline phase; None without one.
          algorithm: the online phase's.

        Raises:
          InputError: the two phases' networks do not fit.
        """
        raise NotImplementedError


class carry(Handover):
    """Keep parameters, targets, optimiser states and temperature; drop what is not used online.

    This is ENOTO's: the released code loads every network and every optimiser. Learning rates
    belong to the online phase's own algorithm.
    """

    def __call__(self, key, offline, algorithm):
        if offline is None:
            raise InputError("carry: there is no offline phase to carry from; use fresh")
        expected = jax.eval_shape(lambda k: core.init(algorithm, k), key)
        kept = {
            part: _kept(self.name, part, offline, getattr(expected, part))
            for part in ("params", "targets", "opt_states")
        }
        state = offline.replace(**kept, frozen={}, step=jnp.int32(0))
        difference = differences(expected, state)
        if difference:
            raise InputError(f"carry: the two phases' networks differ: {difference}")
        return state


class expand_policy(Handover):
    """Freeze the offline policy beside a new one; keep critics, their targets and V (PEX).

    The optimisers start anew, as in the authors' code, which loads networks alone.
    """

    def __call__(self, key, offline, algorithm):
        if offline is None:
            raise InputError("expand_policy: there is no offline phase to expand; use fresh")
        start = core.init(algorithm, key)
        if set(start.frozen) != {OFFLINE_ACTOR}:
            raise InputError(
                "expand_policy: the online algorithm has no place for a frozen policy; choose pex, "
                "or carry"
            )
        learned = {name: x for name, x in start.params.items() if name != "actor"}
        actor = _kept(self.name, "params", offline, {"actor": start.params["actor"]})
        state = start.replace(
            params={**start.params, **_kept(self.name, "params", offline, learned)},
            targets=_kept(self.name, "targets", offline, start.targets),
            frozen={OFFLINE_ACTOR: actor["actor"]},
        )
        difference = differences(start, state)
        if difference:
            raise InputError(f"expand_policy: the two phases' networks differ: {difference}")
        return state


class merge_actors(Handover):
    """Independent agents become one: their actors a mixture's members, their critics one ensemble.

    The targets start as copies of the critics; optimisers, temperature and every other network
    start anew (balanced replay).
    """

    def __call__(self, key, offline, algorithm):
        if offline is None:
            raise InputError("merge_actors: there is no offline phase to merge; use fresh")
        state = core.init(algorithm, key)
        members = {"params": {"members": offline.params["actor"]["params"]}}
        critics = jax.tree.map(
            lambda x: jnp.reshape(x, (-1, *x.shape[2:])), offline.params["critic"]
        )
        merged = state.replace(
            params={**state.params, "actor": members, "critic": critics},
            targets={**state.targets, "critic": jax.tree.map(jnp.copy, critics)},
        )
        difference = differences(state, merged)
        if difference:
            raise InputError(
                "merge_actors: the offline agents do not fit the online mixture (policies there "
                f"is count here, n and hidden are equal): {difference}"
            )
        return merged


class fresh(Handover):
    """Start from new parameters, whatever came before."""

    def __call__(self, key, offline, algorithm):
        return core.init(algorithm, key)


def _kept(unit: str, part: str, offline: core.TrainState, wanted: Mapping) -> dict:
    """The wanted entries of one part of the offline state; all of them must be there."""
    have = getattr(offline, part)
    missing = sorted(set(wanted) - set(have))
    if missing:
        raise InputError(
            f"{unit}: the offline phase has no {part} of {', '.join(missing)}, which the "
            "online algorithm needs; choose a hand-over that makes them, or fresh"
        )
    return {name: have[name] for name in wanted}


def differences(expected, found) -> str:
    """The first differences of two pytrees' paths, shapes and dtypes, in words; "" when equal."""

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
