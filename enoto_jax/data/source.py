"""Data sets, and what is known of their tasks; sources are scaled and joined before reading."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import files, notes, scores, succession
from enoto_jax.types import InputError, Spec, Transition

ENVIRONMENT = "env"  # given instead of an action bound: use the environment's own


@dataclass(frozen=True, eq=False)
class Dataset:
    """Transitions `[M, ...]` as numpy arrays, float32 and bool, in the order they were recorded.

    An episode's last transition, and no other, is terminated or truncated. (In AntMaze every row at
    the goal is terminal and so ends an episode: judge such data by successes, not returns.)
    """

    transitions: Transition
    content_hash: str  # "sha256:..." over the transitions
    rows: int = 0  # rows stored; M or more, as rows without a successor are left out
    notes: tuple[str, ...] = ()  # what was noticed while reading

    def __len__(self) -> int:
        return len(self.transitions.reward)

    @cached_property
    def episode_ends(self) -> np.ndarray:
        """Row of every episode's last transition: int64 [E]."""
        return np.flatnonzero(self.transitions.terminated | self.transitions.truncated)

    @cached_property
    def episode_lengths(self) -> np.ndarray:
        """Transitions in every episode: int64 [E]."""
        return np.diff(self.episode_ends, prepend=-1)

    @cached_property
    def episode_returns(self) -> np.ndarray:
        """Undiscounted sum of every episode's rewards: float64 [E]."""
        starts = self.episode_ends - self.episode_lengths + 1
        return np.add.reduceat(self.transitions.reward.astype(np.float64), starts)


def content_hash(transitions: Transition) -> str:
    """Hash the arrays' names, types, shapes and bytes, as `sha256:<hex digits>`."""
    digest = hashlib.sha256()
    for name, array in zip(Transition._fields[:6], transitions[:6], strict=True):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True, eq=False)
class Source:
    """A data set, and what is known of its task before it is read."""

    name: str  # D4RL or Minari id, file stem, or the user's own
    version: str  # such as "v2", from the id or file name; else ""
    spec: Spec
    env_id: str | None  # Gymnasium id to evaluate in
    max_episode_steps: int | None
    reference: tuple[float, float] | None  # returns of the random and the expert policy
    physics: str = ""  # simulator and versions that the data were recorded with, "" if unknown
    notes: tuple[str, ...] = ()  # what a user of the data should know
    path: Path | None = None
    # Reads the flat arrays; takes the actions' `bounds`. None if there are parts, or no data.
    read: Callable[..., files.Content] | None = field(default=None, repr=False)
    parts: tuple[Source, ...] = ()
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # arguments of env_id
    unread: tuple[str, ...] = ()  # names of arrays that the data also contain
    action_bounds: flat.Bounds | None = None  # bounds that actions are scaled from; None: as stored
    named: str = ""  # the environment in the data's words, if these are not a Gymnasium id
    of_range: bool = False  # action_bounds are only the data's range, and can be replaced

    def load(self) -> Dataset:
        """Read and check the data, once.

        Raises:
          InputError: The file or its numbers cannot be used.
        """
        return self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        found = self._read()
        return Dataset(found.transitions, content_hash(found.transitions), *found[1:])

    def sample(self, count: int) -> Transition | None:
        """Draw `count` transitions, the same every time; all of a smaller set, None without data.

        If `load` has not been called, the data set is read but not kept.

        Raises:
          InputError: As `load` does.
        """
        if self.read is None and not self.parts:
            return None
        kept = self.__dict__.get("_dataset")
        whole = kept.transitions if kept else self._read().transitions
        total = len(whole.reward)
        rows = np.random.default_rng(0).choice(total, min(count, total), replace=False)
        return Transition(*(array[rows] for array in whole[:6]))

    def _read(self) -> _Read:
        if self.parts:
            _check_ranges(self.parts)
            found = [part._read() for part in self.parts]
            named = zip(self.parts, found, strict=True)
            return _Read(
                _joined([part.transitions for part in found]),
                sum(part.rows for part in found),
                tuple(f"{part.name}: {note}" for part, read in named for note in read.notes),
            )
        if self.read is None:
            raise InputError(
                f"{self.name}: only an environment, no data; give a data set as --task"
            )
        arrays, noticed = self.read()
        noticed = (*noticed, *notes.counted(arrays, self.max_episode_steps))
        rows, where = len(arrays["rewards"]), self.path or self.name
        return _Read(
            succession.to_transitions(arrays, self.max_episode_steps, where), rows, noticed
        )

    @property
    def scored(self) -> bool:
        """Whether `score` is D4RL's normalised score; otherwise it is the raw return."""
        return self.reference is not None

    @property
    def no_env(self) -> str:
        """Why the data set has no `env_id`, and what to do."""
        if not self.named:
            return "does not name an environment; give --env, or --env=none to train without one"
        return (
            f"names {self.named}; code named in a file is not imported; give "
            f"--env={shlex.quote(self.named)}"
        )

    def score(self, returns) -> np.ndarray:
        """Return 100 * (return - random) / (expert - random), or the return without a reference.

        Args:
          returns: Undiscounted returns in the environment's own rewards, any shape.
        """
        if self.reference is None:
            return np.asarray(returns, np.float64)
        return scores.normalised_score(returns, self.reference)


class _Read(NamedTuple):
    transitions: Transition
    rows: int
    notes: tuple[str, ...]


def scaled(source: Source, low: Any, high: Any) -> Source:
    """Return the source with actions scaled to [-1, 1] from the bounds they were recorded with.

    Args:
      source: A source whose actions are as stored, or scaled only from the data's own range.
      low: Lowest action, a number or [A], also as text (`-2` or `-2,-1`); or ENVIRONMENT ("env")
        for the bounds of `source.env_id`.
      high: Highest action, likewise. If both are None, the source is returned unchanged.

    Raises:
      InputError: The bounds make no sense, or the actions are scaled already.
    """
    if low is None and high is None:
        return source
    if source.action_bounds is not None and not source.of_range:
        known = flat.interval(*source.action_bounds)
        raise InputError(
            f"{source.name}: its actions are already scaled from the bounds in the data, {known}; "
            "leave out action_low and action_high"
        )
    size = source.spec.action_size
    if any(isinstance(bound, str) and bound == ENVIRONMENT for bound in (low, high)):
        if source.env_id is None:
            raise InputError(
                f"{source.name}: does not name an environment to take action bounds from"
            )
        from enoto_jax.envs.gym import action_bounds  # the simulators are slow to import

        low, high = action_bounds(source.env_id, size)
    bounds = flat.checked_bounds(low, high, size, source.name)
    if source.parts:
        parts = tuple(scaled(part, *bounds) for part in source.parts)
        return replace(source, parts=parts, action_bounds=bounds, of_range=False)
    read = source.read and partial(source.read, bounds=bounds)
    return replace(source, read=read, action_bounds=bounds, of_range=False)


def concatenate(sources: Sequence[Source]) -> Source:
    """Join several sources into one, in order, as medium-expert joins medium and expert.

    Raises:
      InputError: The sources are of different tasks: sizes, environments or reference returns
        differ.
    """
    if not isinstance(sources, list | tuple) or not all(isinstance(s, Source) for s in sources):
        raise InputError("concatenate: give a list of sources, such as [load_source(path), ...]")
    if not sources:
        raise InputError("no sources to concatenate; give at least one")
    name = "+".join(source.name for source in sources)
    known: dict[str, Any] = {}
    for what in ("spec", "env_id", "reference", "env_kwargs"):
        known[what] = None
        for source in sources:
            value = getattr(source, what)
            if what == "env_kwargs" and source.env_id is None:
                value = None  # not known either
            if value is not None and known[what] not in (None, value):
                raise InputError(
                    f"{source.name}: only data sets of one task can be concatenated; its {what} is "
                    f"{value}, but that of the data sets before it is {known[what]}"
                )
            known[what] = known[what] if value is None else value
    limits = {source.max_episode_steps for source in sources}
    same = _same_bounds(sources)
    return Source(
        name=name,
        version=_common(source.version for source in sources),
        max_episode_steps=limits.pop() if len(limits) == 1 else None,
        physics=_common(source.physics or "unknown" for source in sources),
        notes=tuple(f"{source.name}: {note}" for source in sources for note in source.notes),
        parts=tuple(sources),
        unread=tuple(dict.fromkeys(name for source in sources for name in source.unread)),
        action_bounds=sources[0].action_bounds if same else None,
        of_range=same and all(source.of_range for source in sources),
        **known | {"env_kwargs": known["env_kwargs"] or {}},
    )


def _check_ranges(parts: Sequence[Source]) -> None:
    """Refuse parts whose actions are scaled from different ranges: they mean different things."""
    if not any(part.of_range for part in parts):
        return
    if not _same_bounds(parts):
        raise InputError(
            f"{parts[0].name}: the data sets after it scale their actions from other ranges; "
            "give action_low and action_high for all"
        )


def _same_bounds(parts: Sequence[Source]) -> bool:
    """Whether all parts scale their actions from the same bounds, or none of them does."""
    first, *others = (part.action_bounds for part in parts)
    return all(np.array_equal(first, bounds) for bounds in others)


def _common(texts) -> str:
    return " + ".join(dict.fromkeys(texts))


def _joined(parts: list[Transition]) -> Transition:
    """The transitions of all parts, joined one field at a time to save memory."""
    fields = [list(part[:6]) for part in parts]
    return Transition._make(
        [*(np.concatenate([part.pop(0) for part in fields]) for _ in range(6)), {}]
    )
