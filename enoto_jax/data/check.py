"""What is in a data set, and what is wrong with it: every finding, not only the first.

An error makes the data unusable: loading refuses it, or training on it would learn something else
than the user means. A note is something to know. Pure functions on arrays; `inspect` reads a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data.source import Dataset, Source, from_place, locate
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.types import InputError, Transition

# A step that is this many times larger than 99 % of all steps leads across a reset. Real data hold
# none above 8 inside their episodes; across resets most are above 10.
_LEAP = 10.0


class Finding(NamedTuple):
    """One thing that is wrong or odd."""

    error: bool  # the data set cannot be used as it is
    text: str


class Report(NamedTuple):
    """Everything about one data set."""

    name: str
    source: Source | None  # None where the layout is wrong
    arrays: Mapping[str, np.ndarray]  # flat, unchecked, as far as they can be read
    dataset: Dataset | None  # None where there is an error in layout or values
    findings: list[Finding]
    layout: str  # how the file differs from D4RL v2's layout

    @property
    def usable(self) -> bool:
        return not any(finding.error for finding in self.findings)


def inspect(task: str, *, env_id: str | None = None, download: bool = True) -> Report:
    """Reads one data set and finds all that is wrong with it.

    Args:
        task: as `load_source` takes it, but one data set alone.
        env_id: Gymnasium id that its sizes are compared with; default: the data set's own, if that
            can be made here.
        download: as `load_source`.

    Raises:
        InputError: if there is no such data set.
    """
    place = locate(task, download=download)
    errors, arrays, source, dataset, layout = [], {}, None, None, ""
    try:
        with place.opened(place.path) as file:
            errors += file.problems.values()
            layout = layout_of(file.arrays)
            for key, array in file.arrays.items():
                arrays[key] = flat.values_of(array, key)
                arrays[key].flags.writeable = False
        errors += value_errors(arrays)
        if not file.problems:
            source = from_place(place)
        if not errors:
            clean = flat.clean(arrays, place.path)
            transitions = flat.to_transitions(clean, source.max_episode_steps, place.path)
            dataset = Dataset(transitions, flat.content_hash(transitions))
    except InputError as error:
        errors.append(str(error).removeprefix(f"{place.path}: "))
    findings = [Finding(True, text) for text in errors]
    findings += notes(arrays, source and source.max_episode_steps)
    if source is not None:
        findings += [Finding(False, note) for note in source.notes]
        findings += env_findings(source, env_id)
    return Report(place.name, source, arrays, dataset, findings, layout)


def layout_of(arrays: Mapping[str, Any]) -> str:
    """How arrays, known by shape and type, differ from D4RL v2's layout: float32, bool, `[N]`."""
    odd = [f"no {key}" for key in flat.OPTIONAL if key not in arrays]
    kinds: dict[str, list[str]] = {}
    for key, array in arrays.items():
        wanted = "bool" if key in flat.FLAGS else "float32"
        if str(array.dtype) != wanted:
            kinds.setdefault(str(array.dtype), []).append(key)
    # A type that most arrays have is said once.
    odd += [f"{k} {', '.join(v) if len(v) < 4 else 'throughout'}" for k, v in kinds.items()]
    columns = [
        key for key in ("rewards", *flat.FLAGS) if key in arrays and len(arrays[key].shape) == 2
    ]
    odd += [f"{', '.join(columns)} [N, 1]"] * bool(columns)
    virtual = [array for array in arrays.values() if getattr(array, "is_virtual", False)]
    odd += ["rows that lie elsewhere (virtual)"] * bool(virtual)
    return ", ".join(odd) or "as v2"


def table_row(report: Report) -> str:
    """One line of the table in docs/data.md."""
    found = "; ".join(finding.text for finding in report.findings) or "nothing"
    if report.dataset is None:
        return f"| {report.name} | | | | {report.layout} | {found} |"
    data = report.dataset
    ends = data.transitions.terminated.sum()
    return (
        f"| {report.name} | {len(report.arrays['rewards']):,} | {len(data):,} | "
        f"{len(data.episode_ends):,} ({ends:,}) | {report.layout} | {found} |"
    )


def notes(arrays: Mapping[str, np.ndarray], limit: int | None) -> Iterator[Finding]:
    """All that can be said of flat arrays beside `value_errors`, however many of them are bad.

    Args:
        arrays: by key, as far as there are any; `[N, ...]`, unchecked.
        limit: the task's time limit, None if unknown.
    """
    yield from notes_on_arrays(arrays)
    if not {"observations", "terminals"} <= set(arrays):
        return
    rows = len(arrays["terminals"])
    known = _repaired(arrays)
    known |= {key: known[key] == 1 for key in ("terminals", "timeouts") if key in known}
    known = {"actions": np.zeros((rows, 1)), "rewards": np.zeros(rows)} | known
    try:
        transitions = flat.to_transitions(known, limit, "")
    except InputError:  # no transition is left, an error that stands already
        return
    yield from notes_on_episodes(transitions, limit)
    if "next_observations" in arrays:
        yield from unmarked_ends(known)
    else:
        yield from leaps(transitions)


def _repaired(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies with numbers in place of what is none and has been reported: the one that the other
    array has for the same step, else 0."""
    known = {key: np.array(array) for key, array in arrays.items()}
    if "next_observations" in known:
        now, before = known["observations"][1:], known["next_observations"][:-1]
        for one, other in ((now, before), (before, now)):
            np.copyto(one, other, where=~np.isfinite(one))
    return {key: np.nan_to_num(array, posinf=0, neginf=0) for key, array in known.items()}


def value_errors(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """What makes arrays unusable: numbers that are none, flags that are none, wild actions."""
    problems = [flat.value_problem(values, key) for key, values in arrays.items()]
    return [problem for problem in problems if problem]


def notes_on_arrays(arrays: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Constant columns, repeated rows, actions far from their bounds; any of the keys may lack."""
    for key in ("observations", "actions"):
        if key in arrays and len(arrays[key]) > 1:
            values = arrays[key]
            constant = np.flatnonzero((values == values[0]).all(axis=0))
            if len(constant):
                listed = ", ".join(map(str, constant[:12])) + ", ..." * (len(constant) > 12)
                yield Finding(False, f"{key} are constant in column {listed}")
    rewards = arrays.get("rewards", np.zeros(0))
    if len(rewards) > 1 and (rewards == rewards[0]).all():
        yield Finding(False, f"every reward is {rewards[0]:g}: nothing tells actions apart")
    if {"observations", "actions"} <= set(arrays) and (
        count := duplicates(arrays["observations"], arrays["actions"])
    ):
        yield Finding(False, f"{count} rows repeat the observation and action of another row")
    if "actions" in arrays and (largest := np.abs(arrays["actions"]).max()) < 0.5:
        text = f"no action is larger than {largest:.3g}: are they rescaled to [-1, 1]?"
        yield Finding(False, text)
    if {"terminals", "timeouts"} <= set(arrays) and (
        both := ((arrays["terminals"] == 1) & (arrays["timeouts"] == 1)).sum()
    ):
        text = f"{both} rows are terminal and time-outs at once; they count as terminal"
        yield Finding(False, text)


def unmarked_ends(arrays: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Rows that are not followed by their next observation although no end is marked there."""
    marked = arrays["terminals"] | arrays.get("timeouts", np.zeros(len(arrays["terminals"]), bool))
    marked[-1] = True
    rows = np.flatnonzero(
        flat.breaks(arrays["observations"], arrays["next_observations"]) & ~marked
    )
    if len(rows):
        yield Finding(
            False,
            f"the next observation of {len(rows)} rows is not the following row's observation, "
            f"first in row {rows[0]}, and no end is marked; each counts as cut there",
        )


def notes_on_episodes(transitions: Transition, limit: int | None) -> Iterator[Finding]:
    """Terminals that look like time-outs, ends that are not marked, runs of terminal rows.

    Args:
        transitions: `[M, ...]`, as `arrays.to_transitions` returns them.
        limit: the task's time limit, None if unknown.
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
                f"{count} of {len(of_terminals)} terminals stand at step {common}, "
                f"{'the time limit' if limit else 'always the same'}: if they are time-outs, "
                "store them as timeouts, or the critics learn that nothing follows"
            )
            yield Finding(limit is not None, text)
    if limit and (longest := lengths.max()) > limit:
        text = f"the longest episode has {longest} steps, the task's limit is {limit}"
        yield Finding(False, text)
    runs = (transitions.terminated[1:] & transitions.terminated[:-1]).sum()
    if runs:
        text = (
            f"{runs} terminal rows follow a terminal row, as where a trajectory goes on at the "
            "goal; each is an episode of its own"
        )
        yield Finding(False, text)


def leaps(transitions: Transition) -> Iterator[Finding]:
    """Steps inside episodes that are far too large: resets that no end marks."""
    inside = ~transitions.terminated
    if not inside.any():
        return
    with np.errstate(all="ignore"):  # the largest numbers of float32 are too large to subtract
        size = np.abs(transitions.next_observation - transitions.observation)
        usual = np.quantile(size[inside], 0.99, axis=0)
        size = size[:, usual > 0] / usual[usual > 0]
    rows = np.flatnonzero(inside & (size.max(axis=1, initial=0.0) > _LEAP))
    if len(rows):
        yield Finding(
            False,
            f"{len(rows)} transitions inside episodes leap more than {_LEAP:g} times as far as "
            f"99 % of all do, first transition {rows[0]}: resets where no end is marked",
        )


def duplicates(*arrays: np.ndarray) -> int:
    """How many rows `[N, ...]` are equal to an earlier one in all arrays, bit for bit."""
    rows = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    words = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    weights = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64) | 1
    sums = np.zeros(len(words), np.uint64)  # equal for equal rows, else hardly ever
    for column, weight in zip(words.T, weights, strict=True):
        sums += column.astype(np.uint64) * weight
    _, which, counts = np.unique(sums, return_inverse=True, return_counts=True)
    suspects = words[counts[which] > 1]
    return len(suspects) - len({row.tobytes() for row in suspects})


def env_findings(source: Source, env_id: str | None) -> Iterator[Finding]:
    """Whether the environment can be made, and has the sizes of the data."""
    if env_id == "none":
        return
    if not (env_id or source.env_id):
        yield Finding(False, "names no environment; give --env, or --env=none to train without")
        return
    try:
        env = make_env(env_id or source.env_id)
    except InputError as error:
        yield Finding(env_id is not None, str(error))
        return
    found, spec = spec_of(env), source.spec
    env.close()
    if found != spec:
        yield Finding(
            True,
            f"{env_id or source.env_id} has observation size {found.observation_size} and action "
            f"size {found.action_size}, the data have {spec.observation_size} and "
            f"{spec.action_size}; give --env the environment that they come from",
        )


def summary(report: Report) -> list[str]:
    """What is in it, a line each; as much as can be read."""
    lines, source, dataset = [], report.source, report.dataset
    if source is not None:
        spec = source.spec
        lines.append(
            f"task: environment {source.env_id or 'unknown'}, {spec.observation_size} numbers "
            f"observed, {spec.action_size} in an action, limit {source.max_episode_steps or 'none'}"
        )
        lines.append(f"layout: {report.layout}")
        lines.append(f"physics: {source.physics or 'unknown'}")
    if dataset is not None:
        transitions = dataset.transitions
        cut = transitions.truncated.sum()
        lines += [
            f"transitions: {len(dataset):,} (of {len(report.arrays['rewards']):,} rows)",
            f"episodes: {len(dataset.episode_ends):,}, {transitions.terminated.sum():,} end in a "
            f"terminal state, {cut:,} are cut",
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


def _spread(values: np.ndarray, form: str) -> str:
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    return f"{low:{form}} to {high:{form}}, mean {values.mean():{form}}, median {middle:{form}}"


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no finite number"
    mean = finite.mean(dtype=np.float64)
    return f"{finite.min():g} to {finite.max():g}, mean {mean:.4g}"
