"""Data sets from arrays in memory, under the names of any library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import files, notes, words
from enoto_jax.data.source import Source, scaled
from enoto_jax.data.tasks import described
from enoto_jax.types import InputError, Spec


def from_arrays(
    observations=None,
    actions=None,
    rewards=None,
    terminals=None,
    timeouts=None,
    next_observations=None,
    *,
    name: str,
    env_id: str | None = None,
    reference: tuple[float, float] | None = None,
    action_low: Any = None,
    action_high: Any = None,
    **others: Any,
) -> Source:
    """Make a source from arrays in memory; they are checked and copied at once.

    Args:
      observations: [N, D], one row per step, one episode after another.
      actions: [N, A] in [-1, 1], or between `action_low` and `action_high`.
      rewards: [N].
      terminals: [N], 1 where the task ended (no bootstrap).
      timeouts: [N], 1 where a time limit cut the episode; if not given, see `to_transitions`.
      next_observations: [N, D], the true successors; default: the next row's observation.
      name: The data set's name in results.
      env_id: Gymnasium id to evaluate in.
      reference: Returns of a random and of an expert policy, for scores; default: D4RL's, if
        `env_id` is one of D4RL's environments.
      action_low: Lowest action that the data were recorded with: a number, [A], or "env" for
        that of `env_id`. Default: the actions are in [-1, 1].
      action_high: Highest action, likewise.
      **others: The same arrays under names of other libraries (`obs`, `next_obs`, `truncations`,
        `episode_terminals`, `masks`, ..., see `data.words`); arrays with other names are not
        read and are listed in the source's `unread`.

    Raises:
      InputError: The arrays cannot be used, or contradict each other.
    """
    _check_words(name, env_id, reference)
    given: Mapping[str, Any] = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": next_observations,
    }
    given = {k: v for k, v in {**given, **others}.items() if v is not None}
    bounds_of_scores = ("ref_min_score", "ref_max_score")
    attributes: dict[str, Any] = dict(zip(bounds_of_scores, () if reference is None else reference))
    attributes["unread"] = words.unread(given, words.MEANING)
    given, known = _understood(given, name)
    spec = Spec(given["observations"].shape[1], given["actions"].shape[1])
    source = described(name, spec, attributes, env_id, env_id or "")
    bounds = scaled(source, action_low, action_high).action_bounds
    lost = tuple(notes.lost_precision(given))
    arrays = flat.clean(given, name, bounds=bounds, words=known)
    for key, array in arrays.items():
        # float32 arrays are not copied yet, and the caller may write to them later.
        if np.may_share_memory(array, given[key]):
            arrays[key] = array.copy()
        arrays[key].flags.writeable = False
    read = partial(_again, name, files.Content(arrays, (*lost, *notes.on_flags(arrays))))
    source = replace(source, read=read, action_bounds=bounds)
    source.load()
    return source


def _check_words(name: Any, env_id: Any, reference: Any) -> None:
    """Refuse a name, an environment or reference returns of the wrong type.

    Raises:
      InputError: One of them is wrong; the message names it.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(f"name: {name!r}; give the data set a name in one line of text")
    if env_id is not None and not isinstance(env_id, str):
        raise InputError(
            f"{name}: env_id is a {type(env_id).__name__}; give a Gymnasium id here, and a class "
            "or function to train(env=...)"
        )
    if reference is not None and np.shape(reference) != (2,):
        raise InputError(
            f"{name}: reference is {reference!r}; give two returns, (random policy, expert)"
        )


def _understood(given: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The user's arrays by D4RL's names, and the names under which they were given."""
    for key, value in given.items():
        if key not in words.MEANING and (np.isscalar(value) or not hasattr(value, "__len__")):
            raise InputError(f"{name}: from_arrays has no argument {key!r}, and it is not an array")
        if key in words.MEANING and isinstance(value, Mapping):
            raise InputError(
                f"{name}: {key} is a dictionary of {', '.join(map(str, value))}; put its arrays "
                "side by side, as [N, size]"
            )
    for key, value in given.items():
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise InputError(
                f"{name}: {key} has masked entries; fill them, or leave out their rows"
            )
    try:
        arrays = {k: np.asarray(v) for k, v in given.items() if k in words.MEANING}
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name}: {error}; every array needs rows of one length") from error
    if missing := words.missing(arrays):
        raise InputError(f"{name}: no {', '.join(missing)}{words.hint(given)}")
    for problem in flat.layout_problems(arrays).values():
        raise InputError(f"{name}: {problem}")
    understood = words.understand(arrays)
    for problem in understood.problems.values():
        raise InputError(f"{name}: {problem}")
    return understood.arrays, understood.words


def _again(name: str, content: files.Content, bounds: flat.Bounds | None = None) -> files.Content:
    """The read-only content that `from_arrays` keeps, its actions scaled if bounds are given."""
    if bounds is None:
        return content
    return content._replace(arrays=flat.clean(content.arrays, name, bounds=bounds))
