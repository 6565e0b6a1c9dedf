"""Find what is odd about usable data: pure functions on arrays, with one text per finding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import succession
from enoto_jax.types import Transition, plural

# A step this many times larger than 99 % of all steps counts as a reset. Real data have no step
# above 8 inside their episodes; across resets most are above 10.
_LEAP = 10.0
_SAMPLE = 10_000  # rows to check for lost precision; ten times as many give the usual step length
_BLOCK = 1 << 16  # rows


class Finding(NamedTuple):
    """One thing that is wrong or odd."""

    error: bool  # the data set cannot be used as it is
    text: str


def lost_precision(arrays: Mapping[str, Any]) -> Iterator[str]:
    """Yield columns whose distinct numbers become equal in float32, such as times since 1970.

    Args:
      arrays: Arrays as they are stored, by D4RL's name.
    """
    for key in ("observations", "actions", "rewards"):
        if key in arrays and _stored(arrays[key]).itemsize > 4:
            head = np.asarray(_head(arrays[key])).reshape(min(_SAMPLE, arrays[key].shape[0]), -1)
            for column, values in enumerate(head.T):
                exact = len(np.unique(values))
                with np.errstate(all="ignore"):
                    kept = len(np.unique(values.astype(np.float32)))
                if 2 * kept < exact:
                    where = f"column {column} of {key}" if len(head.T) > 1 else key
                    yield (
                        f"{where}: {exact:,} different numbers become {kept:,} in float32; "
                        "subtract an offset, or leave the column out"
                    )


def _stored(array: Any) -> np.dtype:
    return getattr(array, "stored", array.dtype)


def _head(array: Any) -> np.ndarray:
    return array.head(_SAMPLE) if hasattr(array, "head") else array[:_SAMPLE]


def on_flags(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield rows with two kinds of end, and ends that only `next_observations` reveal.

    Args:
      arrays: Arrays as `arrays.clean` returns them.
    """
    ends = arrays["terminals"]
    if "timeouts" in arrays:
        if both := (ends & arrays["timeouts"]).sum():
            told = plural(both, "row is", "rows are")
            yield f"{told} both terminal and a time-out, and counted as terminal"
        ends = ends | arrays["timeouts"]
    if "next_observations" in arrays:
        ends = np.append(ends[:-1], True)
        rows = np.flatnonzero(
            succession.breaks(arrays["observations"], arrays["next_observations"]) & ~ends
        )
        if len(rows):
            yield (
                f"the next observation of {plural(len(rows), 'row')} is not the following row's, "
                f"first in row {rows[0]}, and no end is marked; each counts as cut there"
            )


def counted(arrays: Mapping[str, np.ndarray], limit: int | None) -> Iterator[str]:
    """Yield a note if no array marks time-outs, in which case `to_transitions` counts steps."""
    if limit and not {"timeouts", "next_observations"} & set(arrays):
        yield f"no time-outs are marked: every {limit} steps, the time limit, an episode is cut"


def on_arrays(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield constant columns, repeated rows and odd actions; any key may be missing."""
    for key in ("observations", "actions"):
        if key in arrays and len(arrays[key]) > 1:
            values = arrays[key]
            constant = np.flatnonzero((values == values[0]).all(axis=0))
            if len(constant):
                listed = ", ".join(map(str, constant[:12])) + ", ..." * (len(constant) > 12)
                yield f"{key} are constant in column {listed}"
    rewards = arrays.get("rewards", np.zeros(0))
    if len(rewards) > 1 and (rewards == rewards[0]).all():
        yield f"every reward is {rewards[0]:g}: there is nothing to learn from"
    if {"observations", "actions"} <= set(arrays) and (
        count := duplicates(arrays["observations"], arrays["actions"])
    ):
        rows = plural(count, "row repeats", "rows repeat")
        yield f"{rows} the observation and action of another row"
    if "actions" in arrays:
        yield from _on_actions(arrays["actions"])


def _on_actions(actions: np.ndarray) -> Iterator[str]:
    if (largest := np.abs(actions).max()) < 0.5:
        yield f"no action is larger than {largest:.3g}: are they rescaled to [-1, 1]?"
    if len(actions) > 2 and flat.rows_where(lambda rows: rows == np.round(rows), actions).all():
        found = np.unique(actions)
        if 1 < len(found) < 10:
            yield (
                f"every action is one of {', '.join(f'{x:g}' for x in found)}: discrete actions "
                "are read as continuous ones"
            )


def on_episodes(transitions: Transition, limit: int | None) -> Iterator[Finding]:
    """Yield terminals that look like time-outs, unmarked ends, and runs of terminal rows.

    Args:
      transitions: `[M, ...]`, as `succession.to_transitions` returns them.
      limit: The task's time limit, None if unknown.
    """
    ends = np.flatnonzero(transitions.terminated | transitions.truncated)
    lengths, terminated = np.diff(ends, prepend=-1), transitions.terminated[ends]
    if len(ends) == 1 and len(transitions.reward) > 1:
        yield Finding(False, "no end of an episode is marked before the last row: one episode")
    of_terminals = lengths[terminated & (lengths > 1)]
    if len(of_terminals) >= 3:
        common = limit or np.bincount(of_terminals).argmax()
        count = (of_terminals == common).sum()
        if count > len(of_terminals) / 2:
            text = (
                f"{count} of {len(of_terminals)} terminals are at step {common}, "
                f"{'the time limit' if limit else 'always the same'}: if they are time-outs, "
                "store them as timeouts, or the critics learn that nothing follows"
            )
            yield Finding(limit is not None, text)
    if limit and (longest := lengths.max()) > limit:
        text = f"the longest episode has {plural(longest, 'step')}, the task's limit is {limit:,}"
        yield Finding(False, text)
    runs = (transitions.terminated[1:] & transitions.terminated[:-1]).sum()
    if runs:
        text = (
            f"{plural(runs, 'terminal row directly follows', 'terminal rows directly follow')} "
            "another, as when a trajectory continues at the goal; each counts as an episode"
        )
        yield Finding(False, text)


def leaps(transitions: Transition) -> Iterator[str]:
    """Yield a note on steps inside episodes that are far too large: unmarked resets."""
    inside = np.flatnonzero(~transitions.terminated)
    if not len(inside):
        return
    some = inside[:: -(-len(inside) // (10 * _SAMPLE))]
    with np.errstate(all="ignore"):  # differences of the largest float32 numbers overflow
        usual = np.quantile(_step(transitions, some), 0.99, axis=0)
        found = []
        for start in range(0, len(inside), _BLOCK):
            rows = inside[start : start + _BLOCK]
            size = _step(transitions, rows)[:, usual > 0] / usual[usual > 0]
            found.append(rows[size.max(axis=1, initial=0.0) > _LEAP])
    rows = np.concatenate(found)
    if len(rows):
        jumps = plural(
            len(rows), "transition inside episodes jumps", "transitions inside episodes jump"
        )
        yield (
            f"{jumps} more than {_LEAP:g} times as far as 99 % of all, first transition {rows[0]}: "
            "unmarked resets"
        )


def _step(transitions: Transition, rows: np.ndarray) -> np.ndarray:
    return np.abs(transitions.next_observation[rows] - transitions.observation[rows])


def duplicates(*arrays: np.ndarray) -> int:
    """Count the rows `[N, ...]` that equal an earlier row in all arrays, bit for bit."""
    size = sum(math.prod(array.shape[1:]) for array in arrays)
    drawn = np.random.default_rng(0).integers(2**63, size=size, dtype=np.uint64)
    weights: np.ndarray = drawn | np.ones_like(drawn)
    sums = np.empty(len(arrays[0]), np.uint64)  # equal for equal rows, else hardly ever
    for start in range(0, len(sums), _BLOCK):
        block = slice(start, start + _BLOCK)
        sums[block] = _words(arrays, block) @ weights
    ordered = np.sort(sums)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return 0
    suspects = _words(arrays, np.isin(sums, repeated))
    return len(suspects) - len({row.tobytes() for row in suspects})


def _words(arrays: Sequence[np.ndarray], rows: slice | np.ndarray) -> np.ndarray:
    """The bits of these rows, all arrays side by side; each uint64 holds 32 of them."""
    parts = [array[rows].reshape(-1, math.prod(array.shape[1:])) for array in arrays]
    bits = np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32).view(np.uint32)
    return bits.astype(np.uint64)


def out_of_space(observations: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Return a note on the first column that leaves the observation space's finite bounds.

    Args:
      observations: [N, D], finite.
      low: The space's lowest observation, [D].
      high: Its highest observation, [D].
    """
    least, most = observations.min(axis=0), observations.max(axis=0)
    with np.errstate(all="ignore"):  # infinite bounds have no slack
        slack = np.nan_to_num(flat.OVERSHOOT * (high - low) / 2, posinf=0.0)
    bad = np.flatnonzero((least < low - slack) | (most > high + slack))
    if not len(bad):
        return ""
    i, more = bad[0], f" (and {len(bad) - 1} more)" * (len(bad) > 1)
    return (
        f"observations leave the environment's space: column {i}{more} ranges from {least[i]:g} to "
        f"{most[i]:g}, the space's from {low[i]:g} to {high[i]:g}; is it the same order and unit?"
    )


class ActionUnits(NamedTuple):
    """The units of a data set's actions.

    Attributes:
      scaled: Whether they lie in [-1, 1], as the package needs them.
      environments: Whether they lie within the environment's own bounds, and fit those better.
      note: A note for the user, else "".
    """

    scaled: bool
    environments: bool
    note: str


def action_units(dataset: Any, low: Any, high: Any) -> ActionUnits:
    """Find out whether actions are in [-1, 1] or in the environment's own units.

    Args:
      dataset: A `Dataset`, or actions [N, A].
      low: Lowest action of the environment itself, [A] or a number.
      high: Highest action, likewise.
    """
    actions = dataset if isinstance(dataset, np.ndarray) else dataset.transitions.action
    low, high = (np.broadcast_to(np.float64(x), actions.shape[1:]) for x in (low, high))
    least, most = actions.min(axis=0), actions.max(axis=0)
    scaled = _within(least, most, np.array(-1.0), np.array(1.0))
    other = bool((low < high).all() and ((low != -1.0) | (high != 1.0)).any())
    theirs = other and _within(least, most, low, high)
    # The tighter box wins: data in [0, 1] fill all of [0, 1], but only half of [-1, 1].
    if theirs and scaled:
        theirs = np.mean((most - least) / (high - low)) > np.mean(most - least) / 2
    if not theirs:
        return ActionUnits(scaled, False, "")
    return ActionUnits(
        scaled,
        True,
        f"actions range from {least.min():g} to {most.max():g} and fit the environment's own "
        f"bounds {flat.interval(low, high)} better than [-1, 1]: if they are in its units, scale "
        "them with action_low and action_high",
    )


def _within(least: np.ndarray, most: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    slack = flat.OVERSHOOT * (high - low) / 2
    return bool((least >= low - slack).all() and (most <= high + slack).all())
