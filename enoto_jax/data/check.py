"""Report what is in a data set and what is wrong with it: every finding, not only the first.

An error makes the data unusable: loading refuses them, or training would learn something other
than the user intends. A note is something to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import notes, succession, words
from enoto_jax.data.loading import from_place
from enoto_jax.data.notes import Finding
from enoto_jax.data.places import locate
from enoto_jax.data.source import Dataset, Source, content_hash, scaled
from enoto_jax.data.tasks import completed
from enoto_jax.envs.gym import make_env, observed, own_bounds, spec_of
from enoto_jax.types import InputError, plural


class Report(NamedTuple):
    """Everything about one data set."""

    name: str
    source: Source | None  # None if the layout is wrong
    arrays: Mapping[str, np.ndarray]  # flat, unchecked, as far as they can be read
    dataset: Dataset | None  # None if the layout or the values have an error
    findings: list[Finding]
    layout: str  # how the file differs from D4RL v2's layout

    @property
    def usable(self) -> bool:
        return not any(finding.error for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One line that states whether the data set can be used."""
        errors = sum(finding.error for finding in self.findings)
        count = len(self.findings) - errors
        found = [plural(errors, "error")] * bool(errors) + [plural(count, "note")] * bool(count)
        return ", ".join(["not usable" if errors else "usable", *found])


def inspect(
    task: str,
    *,
    env_id: str | None = None,
    download: bool = True,
    action_low: Any = None,
    action_high: Any = None,
) -> Report:
    """Read one data set and find everything that is wrong with it.

    Args:
      task: A single data set, as in `load_source`; "" for the bundled one.
      env_id: Gymnasium id of the environment to compare sizes and actions with; default: the
        data set's own, if it can be made here.
      download: Whether a missing data set may be downloaded, as in `load_source`.
      action_low: Lowest action that the data were recorded with, as in `load_source`.
      action_high: Highest action, likewise.

    Raises:
      InputError: The data set does not exist.
    """
    place = locate(task, download=download)
    errors: list[str] = []
    lost: list[str] = []
    arrays: dict[str, Any] = {}
    source, dataset, layout = None, None, ""
    try:
        with place.opened(place.path) as file:
            errors += file.problems.values()
            layout = layout_of(file.arrays, file.words)
            for key, array in file.arrays.items():
                arrays[key] = flat.values_of(array, key)
                arrays[key].flags.writeable = False
            lost += notes.lost_precision(file.arrays)
        if not file.problems:
            source = scaled(completed(from_place(place), env_id), action_low, action_high)
        scaled_already = "action_bounds" in file.attributes
        bounds = None if source is None or scaled_already else source.action_bounds
        found = {key: flat.value_problem(array, key, bounds) for key, array in arrays.items()}
        errors += [words.labelled(text, key, file.words) for key, text in found.items() if text]
        if bounds and not found["actions"]:
            arrays["actions"] = flat.rescaled(arrays["actions"], bounds)
        if not errors:
            clean = flat.clean(arrays, place.path)
            rows = len(clean["rewards"])
            noticed = (
                *lost,
                *notes.on_flags(clean),
                *notes.counted(clean, source.max_episode_steps),
            )
            transitions = succession.to_transitions(clean, source.max_episode_steps, place.path)
            dataset = Dataset(transitions, content_hash(transitions), rows, noticed)
    except InputError as error:
        errors.append(str(error).removeprefix(f"{place.path}: "))
    findings = [Finding(True, text) for text in errors]
    findings += [Finding(False, text) for text in lost]
    findings += on_flat(arrays, None if source is None else source.max_episode_steps)
    if source is not None:
        findings += [Finding(False, text) for text in (*source.notes, *_unread(source))]
        findings += env_findings(source, env_id, arrays)
    return Report(place.name, source, arrays, dataset, findings, layout)


def layout_of(arrays: Mapping[str, Any], read_from: Mapping[str, str]) -> str:
    """Describe how arrays differ in shape and type from D4RL v2's layout: float32, bool, `[N]`."""
    odd = [f"{key} from {name}" for key, name in read_from.items() if key in arrays]
    odd += [f"no {key}" for key in words.OPTIONAL if key not in arrays]
    kinds: dict[str, list[str]] = {}
    for key, array in arrays.items():
        wanted = "bool" if key in words.FLAGS else "float32"
        if str(array.dtype) != wanted:
            kinds.setdefault(str(array.dtype), []).append(key)
    # A type that four arrays or more share is printed once.
    odd += [f"{k} {', '.join(v) if len(v) < 4 else 'throughout'}" for k, v in kinds.items()]
    columns = [
        key for key in ("rewards", *words.FLAGS) if key in arrays and len(arrays[key].shape) == 2
    ]
    odd += [f"{', '.join(columns)} [N, 1]"] * bool(columns)
    virtual = [array for array in arrays.values() if getattr(array, "is_virtual", False)]
    odd += ["virtual arrays (rows stored elsewhere)"] * bool(virtual)
    return ", ".join(odd) or "as v2"


def on_flat(arrays: Mapping[str, np.ndarray], limit: int | None) -> Iterator[Finding]:
    """Yield findings on flat arrays, even if some of them are unusable.

    Args:
      arrays: Unchecked arrays `[N, ...]` by key; any key may be missing.
      limit: The task's time limit, None if unknown.
    """
    yield from (Finding(False, text) for text in notes.on_arrays(arrays))
    if not {"observations", "terminals"} <= set(arrays) or arrays["observations"].ndim != 2:
        return
    rows = len(arrays["terminals"])
    known = _repaired(arrays)
    known |= {key: known[key] == 1 for key in ("terminals", "timeouts") if key in known}
    known = {"actions": np.zeros((rows, 1)), "rewards": np.zeros(rows)} | known
    texts = (*notes.on_flags(known), *notes.counted(known, limit))
    yield from (Finding(False, text) for text in texts)
    try:
        transitions = succession.to_transitions(known, limit, "")
    except InputError:  # no transition is left, which is reported already
        return
    yield from notes.on_episodes(transitions, limit)
    yield from (Finding(False, text) for text in notes.leaps(transitions))


def _repaired(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copy with values that are not finite (and reported already) replaced.

    The replacement is the number that the other array of observations has for the same step, or 0.
    """
    known = {key: np.array(array) for key, array in arrays.items()}
    if "next_observations" in known:
        now, before = known["observations"][1:], known["next_observations"][:-1]
        for one, other in ((now, before), (before, now)):
            np.copyto(one, other, where=~np.isfinite(one))
    return {key: np.nan_to_num(array, posinf=0, neginf=0) for key, array in known.items()}


def _unread(source: Source) -> Iterator[str]:
    """A note on arrays that are not read, except D4RL's own descriptions of a recording."""
    names = [name for name in source.unread if name.split("/")[0] not in words.DESCRIPTIVE]
    if names:
        yield f"not read: {', '.join(names)}"


def env_findings(
    source: Source, env_id: str | None, arrays: Mapping[str, np.ndarray] | None = None
) -> Iterator[Finding]:
    """Yield findings on the environment: whether it can be made, sizes, order, units.

    Args:
      source: The data set.
      env_id: Gymnasium id; None for the data set's own, "none" for no check.
      arrays: Flat arrays by key, as far as they could be read.
    """
    if env_id == "none":
        return
    if not (env_id or source.env_id):
        yield Finding(False, source.no_env)
        return
    try:
        env = make_env(env_id or source.env_id, **source.env_kwargs)
    except InputError as error:
        yield Finding(env_id is not None, str(error))
        return
    found, spec, bounds = spec_of(env), source.spec, own_bounds(env)
    seen: Any = env.observation_space
    order = observed(env)
    env.close()
    if found != spec:
        named = f" ({order})" if order else ""
        yield Finding(
            True,
            f"{env_id or source.env_id} has observation size {found.observation_size} and action "
            f"size {found.action_size}, but the data have {spec.observation_size} and "
            f"{spec.action_size}{named}; set --env to the environment that they come from",
        )
        return
    if note := range_note(source, *bounds):
        yield Finding(False, note)
    if order:
        yield Finding(False, f"the environment {order}, in this order")
    known = {key: array for key, array in (arrays or {}).items() if np.isfinite(array).all()}
    texts = []
    if "observations" in known:
        texts.append(notes.out_of_space(known["observations"], seen.low, seen.high))
    if "actions" in known:
        texts.append(notes.action_units(known["actions"], *bounds).note)
    yield from (Finding(False, text) for text in texts if text)


def range_note(source: Source, low: np.ndarray, high: np.ndarray) -> str:
    """Return a note if actions are scaled from the data's range, not the environment's bounds."""
    if not source.of_range or np.allclose(source.action_bounds, (low, high)):
        return ""
    return (
        "actions are scaled from the data's own range, but the environment's bounds are "
        f"{flat.interval(low, high)}: give action_low and action_high ('env' for these), unless "
        "the data are in other units"
    )
