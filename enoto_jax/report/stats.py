"""Summarise a run's evaluations over seeds: final score, drop at the hand-over, recovery, area.

The *last* evaluation is the result. Picking a run's best needs an oracle, hence the name
`oracle_best`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from enoto_jax.report import intervals
from enoto_jax.report.evaluations import (
    PHASES,
    SUCCESS,
    Row,
    Rows,
    evaluation_at,
    metric_of,
    read_evaluations,
    series,
    slope,
)

# A drop is the hand-over's within this part of the online phase, and at most this many steps.
EARLY, EARLY_STEPS = 0.2, 20_000


def _online(env_steps: np.ndarray, y: np.ndarray, known: bool) -> dict[str, float | None]:
    """One seed's online phase. `known`: whether its first evaluation is the hand-over's."""
    covered = float(env_steps[-1] - env_steps[0])
    found: dict[str, float | None] = {
        "final": y[-1],
        "oracle_best": y.max(),
        "area": np.trapezoid(y, env_steps) / covered if covered > 0 else None,
        **dict.fromkeys(("handover", "worst_after", "drop", "steps_to_recover")),
    }
    if not known:
        return found
    found["handover"] = y[0]
    if len(y) > 1:
        # If evaluations are rare, the first after the hand-over may lie beyond the early part.
        early = max(2, int(np.sum(env_steps <= env_steps[0] + min(EARLY * covered, EARLY_STEPS))))
        lowest = 1 + int(np.argmin(y[1:early]))
        found["worst_after"] = y[1:].min()
        found["drop"] = y[0] - y[lowest]
        after = [0] if found["drop"] <= 0 else lowest + np.flatnonzero(y[lowest:] >= y[0])
        found["steps_to_recover"] = env_steps[after[0]] - env_steps[0] if len(after) else None
    return found


def _estimate(by_seed: Mapping[int, Any]) -> dict[str, Any]:
    """A quantity over seeds: mean, range, standard deviation and, from five seeds, interval."""
    known = {
        str(member): None if value is None or not np.isfinite(value) else float(value)
        for member, value in by_seed.items()
    }
    found = dict.fromkeys(("mean", "low", "high", "min", "max", "sd_between_seeds"))
    values = np.array([value for value in known.values() if value is not None])
    if len(values) == len(known):
        found |= {"mean": values.mean(), "min": values.min(), "max": values.max()}
        if len(values) > 1:
            found["sd_between_seeds"] = values.std(ddof=1)
        if len(values) >= intervals.ENOUGH:
            found["low"], found["high"] = intervals.mean_interval(values)
    found = {name: None if value is None else float(value) for name, value in found.items()}
    return {**found, "per_seed": known}


def _apart(estimate: Mapping[str, Any], rows: Sequence[Row], scale: float | None) -> dict[str, Any]:
    """Standard deviations over episodes and over seeds of one evaluation, given a row per seed."""
    found = dict.fromkeys(("sd_within_seeds", "sd_between_seeds_corrected"))
    counts = np.array([row["episodes"] for row in rows], float)
    deviations = np.array([row["return_std"] for row in rows])
    if scale is None or np.any(counts < 2) or not np.isfinite(deviations).all():
        return found
    variances = (scale * deviations) ** 2 * counts / (counts - 1)  # return_std is the population's
    found["sd_within_seeds"] = float(np.sqrt(variances.mean()))
    if estimate["sd_between_seeds"] is not None:
        left = estimate["sd_between_seeds"] ** 2 - np.mean(variances / counts)
        found["sd_between_seeds_corrected"] = float(np.sqrt(max(0.0, left)))
    return found


def _success(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Success rates of one evaluation, given a row per seed; None if they are not known."""
    if not rows or any(np.isnan(row[SUCCESS]) for row in rows):
        return None
    estimate = _estimate({row["seed"]: row[SUCCESS] for row in rows})
    wilson = {
        str(row["seed"]): intervals.wilson(
            round(row[SUCCESS] * row["episodes"]), row["episodes"]
        ).tolist()
        for row in rows
        if row["episodes"]
    }
    return {**estimate, "wilson": wilson}


def summary(rows: Rows) -> dict[str, Any]:
    """Compute the content of `summary.json`.

    The hand-over's evaluation is the online one at step 0, or the first one of a run without an
    offline phase. If it is missing, quantities measured against it are null.

    * `final`, `oracle_best`: the last evaluation and the highest of all.
    * `handover`, `worst_after`: the score at the hand-over, and the lowest after it.
    * `drop`: `handover` minus the lowest score in the first 20% of the online phase, at most 20,000
      steps (at least one evaluation); a drop is positive, a gain negative.
    * `steps_to_recover`: environment steps from the hand-over to the first evaluation, after the
      lowest one, that is at least as good as the hand-over's; 0 without a drop, null if never.
    * `area`: the area under the online curve (trapezoids) divided by its environment steps, which
      is a mean score.

    Each is `{"mean", "low", "high", "min", "max", "sd_between_seeds", "per_seed"}`. `low` and
    `high` are Student's t interval of the mean, null below five seeds. If a seed has no value, for
    example because it never recovered, the mean is null too: leaving that seed out would flatter
    the method. Single evaluations (`final`, `handover`) also have `sd_within_seeds`, the standard
    deviation over the episodes of one policy, and `sd_between_seeds_corrected`, which excludes the
    variance due to episodes.

    `success` has the success rates at the hand-over and at the end, each with Wilson's interval for
    every seed's policy; null if the environment reports none.

    Args:
      rows: As in `read_evaluations`.

    Raises:
      InputError: The evaluations cannot be read.
    """
    rows = read_evaluations(rows)
    metric = metric_of(rows)
    offline, online = (series(rows, phase, metric) for phase in PHASES)
    found: dict[str, dict[int, dict[str, Any]]] = {"offline": {}, "online": {}, "overall": {}}
    for member in sorted(offline.keys() | online.keys()):
        scores = []
        if member in offline:
            scores.append(offline[member][2])
            found["offline"][member] = {"final": scores[-1][-1], "oracle_best": scores[-1].max()}
        if member in online:
            steps, env_steps, y = online[member]
            scores.append(y)
            found["online"][member] = _online(env_steps, y, steps[0] == 0 or member not in offline)
        best = np.concatenate(scores).max()
        found["overall"][member] = {"final": scores[-1][-1], "oracle_best": best}

    def phase(by_seed: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
        names = next(iter(by_seed.values()), {})
        estimates = {
            name: _estimate({member: of[name] for member, of in by_seed.items()}) for name in names
        }
        return estimates or None

    phases = {name: phase(by_seed) for name, by_seed in found.items()}
    scale = slope(rows, metric)
    for name, quantity, where in (
        ("offline", "final", "offline"),
        ("online", "handover", "handover"),
        ("online", "final", "final"),
        ("overall", "final", "final"),
    ):
        own = evaluation_at(rows, where)
        if phases[name] is not None and len(own) == len(phases[name][quantity]["per_seed"]):
            phases[name][quantity] |= _apart(phases[name][quantity], own, scale)
    rates = {name: _success(evaluation_at(rows, name)) for name in ("handover", "final")}
    return {
        "metric": metric,
        "seeds": len(found["overall"]),
        "interval": f"{intervals.T_INTERVAL} over seeds, from {intervals.ENOUGH} seeds on",
        **phases,
        "success": rates if any(rates.values()) else None,
    }


def words(per_seed: Mapping[str, float | None], digits: int = 1) -> str:
    """Format a quantity over seeds for people.

    Returns:
      "51.7 [49.1, 54.3] (95% t interval, n = 5)"; below five seeds "51.7 (seeds 50.1, 53.3)";
      "unknown" if a seed has no value.
    """
    values = list(per_seed.values())
    if not values or None in values:
        return "unknown"
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return f"{mean} (1 seed)"
    if len(values) < intervals.ENOUGH:
        return f"{mean} (seeds {', '.join(f'{value:.{digits}f}' for value in values)})"
    low, high = (f"{bound:.{digits}f}" for bound in intervals.mean_interval(np.asarray(values)))
    return f"{mean} [{low}, {high}] (95% t interval, n = {len(values)})"


def headline(found: Mapping[str, Any]) -> str:
    """Format a summary as one line: the score at the hand-over and at the end, with seeds or n.

    Args:
      found: A `summary`, possibly written by an older version; {} without evaluations.
    """
    if not found:
        return "no evaluations"
    metric, parts = found["metric"].replace("_mean", ""), []
    handover = (found.get("online") or {}).get("handover")
    if handover and handover["mean"] is not None:
        parts.append(f"{metric} at the hand-over {words(handover['per_seed'])}")
    parts.append(f"final {metric} {words(found['overall']['final']['per_seed'])}")
    if rates := (found.get("success") or {}).get("final"):
        percent = {seed: rate and 100 * rate for seed, rate in rates["per_seed"].items()}
        parts.append(f"final success (%) {words(percent, 0)}")
    return "; ".join(parts)
