"""Hand-overs: what the online phase starts from. Pure functions from state to state.

A hand-over gets (key, offline state or None, online algorithm, example of its fresh state) and
returns the online state; its structure is compared with what the online update expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from enoto_jax import core
from enoto_jax.types import InputError, Key

OFFLINE_ACTOR = "offline_actor"  # the frozen network that expand_policy fills

Handover = Callable[[Key, core.TrainState | None, core.Algorithm], core.TrainState]


def carry() -> Handover:
    """Keep parameters, targets, optimiser states and temperature; drop what is not used online.

    This is ENOTO's: the released code loads every network and every optimiser. Learning rates
    belong to the online phase's own algorithm.
    """

    def handover(key: Key, offline, algorithm):
        if offline is None:
            raise InputError("carry: there is no offline phase to carry from; use fresh")
        expected = jax.eval_shape(lambda k: core.init(algorithm, k), key)
        kept = {
            part: _kept("carry", part, offline, getattr(expected, part))
            for part in ("params", "targets", "opt_states")
        }
        state = offline.replace(**kept, frozen={}, step=jnp.int32(0))
        difference = differences(expected, state)
        if difference:
            raise InputError(f"carry: the two phases' networks differ: {difference}")
        return state

    return handover


def expand_policy() -> Handover:
    """Freeze the offline policy beside a new one; keep critics, their targets and V (PEX).

    The optimisers start anew, as in the authors' code, which loads networks alone.
    """

    def handover(key: Key, offline, algorithm):
        if offline is None:
            raise InputError("expand_policy: there is no offline phase to expand; use fresh")
        start = core.init(algorithm, key)
        if set(start.frozen) != {OFFLINE_ACTOR}:
            raise InputError(
                "expand_policy: the online algorithm has no place for a frozen policy; choose pex, "
                "or carry"
            )
        learned = {name: x for name, x in start.params.items() if name != "actor"}
        actor = _kept("expand_policy", "params", offline, {"actor": start.params["actor"]})
        state = start.replace(
            params={**start.params, **_kept("expand_policy", "params", offline, learned)},
            targets=_kept("expand_policy", "targets", offline, start.targets),
            frozen={OFFLINE_ACTOR: actor["actor"]},
        )
        difference = differences(start, state)
        if difference:
            raise InputError(f"expand_policy: the two phases' networks differ: {difference}")
        return state

    return handover


def merge_actors() -> Handover:
    """Independent agents become one: their actors a mixture's members, their critics one ensemble.

    The targets start as copies of the critics; optimisers, temperature and every other network
    start anew (balanced replay).
    """

    def handover(key: Key, offline, algorithm):
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

    return handover


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


def fresh() -> Handover:
    """Start from new parameters, whatever came before."""
    return lambda key, offline, algorithm: core.init(algorithm, key)


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
