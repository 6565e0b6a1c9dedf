"""Differences between methods, seed by seed.

Two runs share a hand-over if they started from the same checkpoint, or trained the same offline
phase on the same data with the same seed. Their difference is then due to the online phase alone.
Runs that share no hand-over, but seeds, task and environment, are also compared seed by seed, and
labelled accordingly.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from enoto_jax.report import intervals, stats
from enoto_jax.report.evaluations import metric_of
from enoto_jax.report.runs import Run

QUANTITIES = ("final", "area", "drop")
HANDOVER, SEED = "hand-over", "seed"


class Difference(NamedTuple):
    """One method minus another on one task.

    Attributes:
      ours: A row's name.
      theirs: Name of the row that is subtracted.
      quantity: One of QUANTITIES, of the online phase in `stats.summary`.
      paired_by: "hand-over" or "seed".
      per_seed: seed -> difference.
    """

    ours: str
    theirs: str
    quantity: str
    paired_by: str
    per_seed: dict[int, float]

    @property
    def values(self) -> np.ndarray:
        return np.array(list(self.per_seed.values()))

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's t interval of the mean, None below five seeds."""
        if len(self.per_seed) < intervals.ENOUGH:
            return None
        low, high = intervals.mean_interval(self.values)
        return float(low), float(high)

    @property
    def verdict(self) -> str:
        return intervals.verdict(self.values)


def handover(run: Run) -> set[str]:
    """Return names of the state at the hand-over; runs with a name in common share that state."""
    recipe = run.config.get("recipe") or {}
    if run.start is not None:
        return {str(run.start)}
    if not recipe.get("offline"):
        return set()
    names = {str(run.folder.resolve())}
    if run.config.get("data_hash"):
        learned = [recipe.get(part) for part in ("offline", "transform", "precision")]
        offline = json.dumps(learned, sort_keys=True)
        names.add(f"{run.config['data_hash']} {offline}")
    return names


def compare(ours: Sequence[Run], theirs: Sequence[Run]) -> list[Difference]:
    """Compute the differences between two methods on one task, on the seeds that both have.

    Args:
      ours: Runs of one row; no seed twice.
      theirs: Runs of another row.

    Returns:
      One difference per quantity that every shared seed has. [] if no seed is shared, the runs were
      not evaluated alike, or their online phases end at different steps.
    """
    here, there = _by_seed(ours), _by_seed(theirs)
    seeds = sorted(here.keys() & there.keys())
    seeds = [seed for seed in seeds if alike(here[seed], there[seed], seed)]
    if not seeds or _metrics([*ours, *theirs]) != 1:
        return []
    shared = all(_share(here[seed], there[seed]) for seed in seeds)
    values = [_values(runs) for runs in (ours, theirs)]
    found = []
    for quantity in QUANTITIES:
        a, b = (own.get(quantity, {}) for own in values)
        if all(a.get(seed) is not None and b.get(seed) is not None for seed in seeds):
            per_seed = {seed: a[seed] - b[seed] for seed in seeds}
            paired_by = HANDOVER if shared else SEED
            found.append(
                Difference(ours[0].row, theirs[0].row, quantity, paired_by, per_seed),
            )
    return found


def every(rows: Mapping[str, Sequence[Run]]) -> Iterator[Difference]:
    """Yield the differences of all pairs of rows on one task, each row minus an earlier one."""
    for theirs, ours in itertools.combinations(rows, 2):
        yield from compare(rows[ours], rows[theirs])


def line(difference: Difference) -> str:
    """Return a difference as one line of text."""
    seeds = ", ".join(f"{seed}: {value:+.1f}" for seed, value in difference.per_seed.items())
    spread = f"from {difference.values.min():+.1f} to {difference.values.max():+.1f}"
    if difference.interval is not None:
        low, high = difference.interval
        spread = f"95% t interval [{low:+.1f}, {high:+.1f}], n = {len(difference.per_seed)}"
    return (
        f"{difference.ours} - {difference.theirs}, {difference.quantity}, by "
        f"{difference.paired_by}: {difference.mean:+.1f} ({spread}; seeds {seeds}): "
        f"{difference.verdict}"
    )


def _by_seed(runs: Sequence[Run]) -> dict[int, Run]:
    return {seed: run for run in runs for seed in run.seeds}


def _metrics(runs: Sequence[Run]) -> int:
    return len({metric_of(run.rows) for run in runs})


def _share(one: Run, other: Run) -> bool:
    """Whether two runs started online from one state, evaluated in the same episodes."""
    # Older runs, and those with an offline phase of their own, have no step.
    steps = {run.config.get("restored_step") for run in (one, other)} - {None}
    same = handover(one) & handover(other) and _starts(one) == _starts(other)
    return bool(same) and len(steps) <= 1


def _starts(run: Run) -> tuple:
    """What an evaluation's start states depend on, in addition to seed and step."""
    return run.config.get("env"), run.config.get("eval_episodes")


def alike(one: Run, other: Run, seed: int) -> bool:
    """Whether both were evaluated in the same environment, after equally many online steps."""
    ends = []
    for run in (one, other):
        own = [row["env_steps"] for row in run.rows if row["seed"] == seed]
        ends.append(max(own, default=0))
    return one.config.get("env") == other.config.get("env") and ends[0] == ends[1] > 0


def _values(runs: Sequence[Run]) -> dict[str, dict[int, float | None]]:
    """quantity -> seed -> value, for the online phase."""
    online = stats.summary([row for run in runs for row in run.rows])["online"] or {}
    return {
        quantity: {int(seed): value for seed, value in online[quantity]["per_seed"].items()}
        for quantity in QUANTITIES
        if quantity in online
    }
