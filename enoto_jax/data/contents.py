"""Describe a data set in lines for people: at a run's start, and in `enoto check-data`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import check, notes
from enoto_jax.data.notes import Finding
from enoto_jax.data.source import Dataset, Source
from enoto_jax.types import Transition, plural


def opening_lines(
    source: Source, dataset: Dataset, bounds: flat.Bounds | None = None, observed: str = ""
) -> list[str]:
    """Describe a run's data before training: size, episodes, rewards, and every note.

    Args:
      source: Where the data come from.
      dataset: The data set that `source.load` returned.
      bounds: The environment's own lowest and highest action, each [A], if there is one.
      observed: The order of its observations in words, as `envs.gym.observed` returns it.
    """
    reward = dataset.transitions.reward
    lines = [
        f"data: {plural(dataset.rows or len(dataset), 'row')}; episodes: {_episodes(dataset)}",
        f"rewards: {_range(reward)}; returns: {_spread(dataset.episode_returns, '.2f')}",
    ]
    lines += [observed] * bool(observed)
    lines += _treatment(source)
    texts = [*source.notes, *dataset.notes]
    texts += notes.on_arrays(_flat(dataset.transitions))
    texts += notes.leaps(dataset.transitions)
    if bounds is not None:
        note = notes.action_units(dataset, *bounds).note
        texts += [text for text in (note, check.range_note(source, *bounds)) if text]
    found = [Finding(False, text) for text in texts]
    found += notes.on_episodes(dataset.transitions, source.max_episode_steps)
    found.sort(key=lambda finding: not finding.error)
    return lines + [f"{'WARNING' if error else 'note'}: {text}" for error, text in found]


def table_row(report: check.Report) -> str:
    """Return one line of the table in docs/data.md."""
    found = "; ".join(finding.text for finding in report.findings) or "nothing"
    if report.dataset is None:
        return f"| {report.name} | | | | {report.layout} | {found} |"
    data = report.dataset
    ends = data.transitions.terminated.sum()
    return (
        f"| {report.name} | {len(report.arrays['rewards']):,} | {len(data):,} | "
        f"{len(data.episode_ends):,} ({ends:,}) | {report.layout} | {found} |"
    )


def lines(report: check.Report) -> list[str]:
    """Describe a data set's contents as far as they can be read, one line per item."""
    lines, source, dataset = [], report.source, report.dataset
    if source is not None:
        spec = source.spec
        lines.append(
            f"task: environment {source.env_id or 'unknown'}, "
            f"{plural(spec.observation_size, 'number')} observed, {spec.action_size} in an action, "
            f"limit {source.max_episode_steps or 'none'}"
        )
        lines.append(f"layout: {report.layout}")
        lines.append(f"physics: {source.physics or 'unknown'}")
        lines += _treatment(source)
    if dataset is not None:
        transitions = dataset.transitions
        lines += [
            f"transitions: {len(dataset):,} (of {plural(dataset.rows, 'row')})",
            f"episodes: {_episodes(dataset)}",
            f"lengths: {_spread(dataset.episode_lengths, '.0f')}",
            f"returns: {_spread(dataset.episode_returns, '.2f')}",
        ]
        if source.scored:
            score = float(source.score(dataset.episode_returns.mean()))
            low, high = source.reference
            lines.append(f"score of the mean return: {score:.1f} (0 is {low:g}, 100 is {high:g})")
        lines.append(f"memory: {sum(a.nbytes for a in transitions[:6]) / 1e6:.1f} MB")
        lines.append(f"content: {dataset.content_hash}")
    for key in ("actions", "rewards", "observations"):
        if key in report.arrays:
            lines.append(f"{key}: {_range(report.arrays[key])}")
    return lines


def _treatment(source: Source) -> Iterator[str]:
    """Lines on what is left out of the stored data, and on what is changed."""
    if source.unread:
        yield f"not read: {', '.join(source.unread)}"
    for part in source.parts or (source,):
        if part.action_bounds and (found := flat.interval(*part.action_bounds)) != "[-1, 1]":
            name = f" of {part.name}" if source.parts else ""
            yield f"actions{name}: scaled from {found} to [-1, 1]"


def _flat(transitions: Transition) -> dict[str, np.ndarray]:
    """Observations, actions and rewards under D4RL's names."""
    return {
        "observations": transitions.observation,
        "actions": transitions.action,
        "rewards": transitions.reward,
    }


def _episodes(dataset: Dataset) -> str:
    ends, cuts = dataset.transitions.terminated.sum(), dataset.transitions.truncated.sum()
    total = len(dataset.episode_ends)
    ended = plural(ends, "ends in a terminal state", "end in a terminal state")
    return f"{total:,}, {ended}, {plural(cuts, 'is cut', 'are cut')}"


def _spread(values: np.ndarray, form: str) -> str:
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    return f"{low:{form}} to {high:{form}}, mean {values.mean():{form}}, median {middle:{form}}"


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no finite number"
    mean = finite.mean(dtype=np.float64)
    return f"{finite.min():g} to {finite.max():g}, mean {mean:.4g}"
