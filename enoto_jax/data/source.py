"""Where data comes from: a D4RL or Minari id, a file, arrays, the small data set in the package,
or several of them in a row."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import files, notes, scores, words
from enoto_jax.data.download import catalogue
from enoto_jax.data.places import ENV_ID, Place, locate, split
from enoto_jax.types import InputError, Spec, Transition

ENVIRONMENT = "env"  # in place of a bound of actions: the environment's own
_D4RL_PHYSICS = "MuJoCo of the 2.0 era through mujoco-py (as D4RL recorded it)"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Transitions `[M, ...]` as numpy arrays, float32 and bool, in the order they were recorded.

    An episode's last transition, and no other, is terminated or truncated. (In AntMaze every row at
    the goal is terminal, so each is an episode: read successes, not returns, off such data.)
    """

    transitions: Transition
    content_hash: str  # "sha256:..." over the transitions
    rows: int = 0  # of the arrays or files; M or more, as rows without a successor are left out
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


@dataclass(frozen=True, eq=False)
class Source:
    """A data set, and what is known of its task before it is read."""

    name: str  # D4RL or Minari id, file stem, or the user's own
    version: str  # "v2" of an id or file name, "" where there is none
    spec: Spec
    env_id: str | None  # Gymnasium id to evaluate in
    max_episode_steps: int | None
    reference: tuple[float, float] | None  # returns of the random and of the expert policy
    physics: str = ""  # simulator and versions that the data were recorded with, "" if unknown
    notes: tuple[str, ...] = ()  # what a user of the data should know
    path: Path | None = None
    # Reads flat arrays, or the sources that this one consists of. Takes `bounds` of the actions.
    read: Callable[..., files.Content] | None = field(default=None, repr=False)
    parts: tuple[Source, ...] = ()
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # Gymnasium's, to make env_id with
    unread: tuple[str, ...] = ()  # names of arrays that the data also hold
    action_bounds: flat.Bounds | None = None  # that actions were scaled from; None: as stored

    def load(self) -> Dataset:
        """Reads and checks the data, once.

        Raises:
            InputError: if the file or its numbers cannot be used.
        """
        return self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        found = self._read()
        return Dataset(found.transitions, flat.content_hash(found.transitions), *found[1:])

    def sample(self, count: int) -> Transition | None:
        """The same `count` transitions every time, all of a smaller set; None without data.

        The data set is read for them where `load` has not, and not kept.

        Raises:
            InputError: as `load` does.
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
            found = [part._read() for part in self.parts]
            named = zip(self.parts, found, strict=True)
            return _Read(
                _joined([part.transitions for part in found]),
                sum(part.rows for part in found),
                tuple(f"{part.name}: {note}" for part, read in named for note in read.notes),
            )
        if self.read is None:
            raise InputError(f"{self.name}: only an environment, no data; give --task a data set")
        arrays, noticed = self.read()
        noticed = (*noticed, *notes.counted(arrays, self.max_episode_steps))
        rows, where = len(arrays["rewards"]), self.path or self.name
        return _Read(flat.to_transitions(arrays, self.max_episode_steps, where), rows, noticed)

    @property
    def scored(self) -> bool:
        """Whether `score` is D4RL's normalised score; otherwise it is the raw return."""
        return self.reference is not None

    def score(self, returns) -> np.ndarray:
        """100 * (return - random) / (expert - random), or the return where no reference exists.

        Args:
            returns: undiscounted returns in the environment's own rewards, any shape.
        """
        if self.reference is None:
            return np.asarray(returns, np.float64)
        return scores.normalised_score(returns, self.reference)


class _Read(NamedTuple):
    transitions: Transition
    rows: int
    notes: tuple[str, ...]


def load_source(
    task: str | os.PathLike | None = None,
    *,
    download: bool = True,
    action_low: Any = None,
    action_high: Any = None,
) -> Source:
    """Finds a data set; its numbers are read by the source's `load`.

    Args:
        task: a D4RL id (`hopper-medium-v2`), `minari:` and the id of a Minari data set, `ogbench:`
            and the id of one of OGBench's single tasks (a folder may stand before it), the path of
            an `.hdf5`, `.h5` or `.npz` file in D4RL's layout, several of these joined by `+`, or
            None for the data set that ships with the package.
        download: whether a data set that is named by its id and is not there may be fetched.
        action_low: lowest action that the data were recorded with, see `scaled`.
        action_high: highest one.

    Raises:
        InputError: if the id is unknown, or the file is missing or unusable.
    """
    sources = [from_place(locate(part, download=download)) for part in split(task)]
    source = sources[0] if len(sources) == 1 else concatenate(sources)
    return scaled(source, action_low, action_high)


def load_data(
    task: str | os.PathLike | None = None, *, action_low: Any = None, action_high: Any = None
) -> Dataset:
    """Reads a data set's numbers: `load_source(task).load()`.

    Args:
        task: as in `load_source`; the data set that ships with the package by default.
        action_low: lowest action that the data were recorded with, see `scaled`.
        action_high: highest one.

    Returns:
        Transitions [M, ...] as NumPy arrays, with episode ends, lengths and returns [E].

    Raises:
        InputError: the id is unknown, or the file or its numbers cannot be used.
    """
    return load_source(task, action_low=action_low, action_high=action_high).load()


def scaled(source: Source, low: Any, high: Any) -> Source:
    """The source with its actions scaled to [-1, 1] from the bounds that they were recorded with.

    Args:
        source: its actions are not scaled yet.
        low: lowest action, a number or [A], also as text (`-2` or `-2,-1`); or ENVIRONMENT ("env")
            for the bounds of `source.env_id`.
        high: highest action, likewise. Where both are None, the source is returned as it is.

    Raises:
        InputError: the bounds make no sense, or the actions are scaled already.
    """
    if low is None and high is None:
        return source
    if source.action_bounds is not None:
        known = flat.interval(*source.action_bounds)
        raise InputError(
            f"{source.name}: its actions are scaled already, from {known} as the data say; "
            "leave out action_low and action_high"
        )
    size = source.spec.action_size
    if any(isinstance(bound, str) and bound == ENVIRONMENT for bound in (low, high)):
        if source.env_id is None:
            raise InputError(f"{source.name}: names no environment to take action bounds from")
        from enoto_jax.envs.gym import action_bounds  # the simulators are slow to import

        low, high = action_bounds(source.env_id, size)
    bounds = flat.checked_bounds(low, high, size, source.name)
    if source.parts:
        parts = tuple(scaled(part, *bounds) for part in source.parts)
        return replace(source, parts=parts, action_bounds=bounds)
    read = source.read and partial(source.read, bounds=bounds)
    return replace(source, read=read, action_bounds=bounds)


def completed(source: Source, env_id: str | None) -> Source:
    """The source with what is known of the environment that its policies are evaluated in.

    What the data say of time limit and reference returns stays; what they do not say is that of
    the environment. Arguments of the data's own environment are not another one's.

    Args:
        source: from a file, an id, or arrays.
        env_id: Gymnasium id; None and "none" change nothing.
    """
    if env_id in (None, "none", source.env_id):
        return source
    reference, limit = _known(env_id, source.spec)
    return replace(
        source,
        env_id=env_id,
        env_kwargs={},
        reference=source.reference or reference,
        max_episode_steps=source.max_episode_steps or limit,
        parts=tuple(completed(part, env_id) for part in source.parts),
    )


def _known(env_id: str, spec: Spec) -> tuple[tuple[float, float] | None, int | None]:
    """Reference returns and time limit of an environment."""
    family = scores.family_of(env_id, spec)
    if family:
        return (family.random, family.expert), family.max_episode_steps
    return None, _registered_limit(env_id)


def from_place(place: Place) -> Source:
    """The source that lies there; raises as `load_source` does."""
    opened, path, name, in_family = place
    header = files.peek(opened, path)
    env_id = _env_id(header.attributes)
    family_name = (env_id or name) if in_family else ""
    read = partial(files.read, opened, path)
    source = _described(
        name, header.spec, header.attributes, env_id, family_name, path=path, read=read
    )
    return scaled(source, *(header.attributes.get(f"action_{end}") for end in ("low", "high")))


def concatenate(sources: Sequence[Source]) -> Source:
    """Makes one source of several, in their order, as medium-expert is medium and then expert.

    Raises:
        InputError: if they are of different tasks: sizes, environments or reference returns differ.
    """
    if not sources:
        raise InputError("no sources to concatenate; give at least one")
    name = "+".join(source.name for source in sources)
    known: dict[str, Any] = {}
    for what in ("spec", "env_id", "reference", "env_kwargs"):
        known[what] = None
        for source in sources:
            value = getattr(source, what) or None
            if value is not None and known[what] not in (None, value):
                raise InputError(
                    f"{source.name}: other tasks cannot be concatenated; its {what} is {value}, "
                    f"that of the data sets before it is {known[what]}"
                )
            known[what] = known[what] if value is None else value
    limits = {source.max_episode_steps for source in sources}
    return Source(
        name=name,
        version=_common(source.version for source in sources),
        max_episode_steps=limits.pop() if len(limits) == 1 else None,
        physics=_common(source.physics or "unknown" for source in sources),
        notes=tuple(f"{source.name}: {note}" for source in sources for note in source.notes),
        parts=tuple(sources),
        unread=tuple(dict.fromkeys(name for source in sources for name in source.unread)),
        **known | {"env_kwargs": known["env_kwargs"] or {}},
    )


def _common(texts) -> str:
    return " + ".join(dict.fromkeys(texts))


def _joined(parts: list[Transition]) -> Transition:
    """The transitions of all parts, a field at a time, so that little is held twice."""
    fields = [list(part[:6]) for part in parts]
    return Transition._make(
        [*(np.concatenate([part.pop(0) for part in fields]) for _ in range(6)), {}]
    )


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
    """Makes a source of arrays in memory; they are checked and copied at once.

    Args:
        observations: [N, D], one row a step, episodes one after the other.
        actions: [N, A] in [-1, 1], or between `action_low` and `action_high`.
        rewards: [N].
        terminals: [N], 1 where the task ended (no bootstrap).
        timeouts: [N], 1 where a time limit cut the episode; without it see `to_transitions`.
        next_observations: [N, D], the true successors; without it the following row's observation.
        name: how results call the data set.
        env_id: Gymnasium id to evaluate in.
        reference: returns of a random and of an expert policy, for scores; default: D4RL's, if
            `env_id` is one of D4RL's environments.
        action_low: lowest action that the data were recorded with, a number or [A], or "env" for
            that of `env_id`; likewise `action_high`. Default: the actions are in [-1, 1].
        action_high: highest one.
        **others: the same arrays under names of other libraries (`obs`, `next_obs`, `truncations`,
            `episode_terminals`, `masks`, ..., see `data.words`); arrays with other names are not
            read and are listed in the source's `unread`.

    Raises:
        InputError: if the arrays cannot be used, or contradict each other.
    """
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
    attributes: dict[str, Any] = dict(zip(bounds_of_scores, reference or (), strict=False))
    attributes["unread"] = words.unread(given, words.MEANING)
    given, known = _understood(given, name)
    spec = Spec(given["observations"].shape[1], given["actions"].shape[1])
    source = _described(name, spec, attributes, env_id, env_id or "")
    bounds = scaled(source, action_low, action_high).action_bounds
    lost = tuple(notes.lost_precision(given))
    arrays = flat.clean(given, name, bounds=bounds, words=known)
    for key, array in arrays.items():
        # What was float32 is not copied yet; from now on the caller may write to his own.
        if np.may_share_memory(array, given[key]):
            arrays[key] = array.copy()
        arrays[key].flags.writeable = False
    read = partial(_again, name, files.Content(arrays, (*lost, *notes.on_flags(arrays))))
    source = replace(source, read=read, action_bounds=bounds)
    source.load()
    return source


def _understood(given: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The user's arrays by D4RL's names, and the names that they had."""
    for key, value in given.items():
        if key not in words.MEANING and (np.isscalar(value) or not hasattr(value, "__len__")):
            raise InputError(f"{name}: from_arrays has no argument {key!r}, and that is no array")
        if key in words.MEANING and isinstance(value, Mapping):
            raise InputError(
                f"{name}: {key} is a dictionary of {', '.join(map(str, value))}; put its arrays "
                "side by side, as [N, size]"
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
    """What `from_arrays` keeps, read-only, with the actions scaled where they were not before."""
    if bounds is None:
        return content
    return content._replace(arrays=flat.clean(content.arrays, name, bounds=bounds))


def from_env(env_id: str, spec: Spec) -> Source:
    """A task without data, for rows that train online only.

    Args:
        env_id: Gymnasium id; its name in results, and the key to D4RL's reference returns.
        spec: its sizes.
    """
    return _described(env_id, spec, {}, env_id, env_id)


def _described(
    name: str,
    spec: Spec,
    attributes: Mapping[str, Any],
    env_id: str | None,
    family_name: str,
    **content: Any,
) -> Source:
    """Fills in what is known of the task: from the attributes first, then from its family."""
    where = content.get("path", name)
    family = scores.family_of(family_name, spec)
    reference = family and (family.random, family.expert)
    bounds = [attributes[k] for k in ("ref_min_score", "ref_max_score") if k in attributes]
    if bounds:
        told = [_number(bound) for bound in bounds]
        if len(told) != 2 or not np.isfinite(told).all() or told[0] >= told[1]:
            raise InputError(
                f"{where}: ref_min_score and ref_max_score must both be given, as numbers, the "
                f"smaller first; got {', '.join(repr(str(b)) for b in bounds)}"
            )
        reference = (told[0], told[1])
    limit = family.max_episode_steps if family else _registered_limit(env_id)
    if "max_episode_steps" in attributes:
        told_limit = _number(attributes["max_episode_steps"])
        if told_limit < 1 or not told_limit.is_integer():
            raise InputError(
                f"{where}: max_episode_steps must be a whole number of steps, "
                f"got {str(attributes['max_episode_steps'])!r}"
            )
        limit = int(told_limit)
    version = re.search(r"-(v\d+)$", name)
    return Source(
        name=name,
        version=version[1] if version else "",
        spec=spec,
        env_id=env_id or (family and family.env_id),
        max_episode_steps=limit,
        reference=reference,
        physics=_physics(attributes, content["path"].name if "path" in content else None),
        notes=tuple(map(_text, attributes.get("notes", ()))),
        unread=tuple(map(_text, attributes.get("unread", ()))),
        env_kwargs=attributes.get("env_kwargs", {}),
        action_bounds=attributes.get("action_bounds"),
        **content,
    )


def _physics(attributes: Mapping[str, Any], file_name: str | None) -> str:
    """What the attributes say of the simulator; D4RL's own files, known by name, have none."""
    if "physics" in attributes:
        return _text(attributes["physics"])
    versions = (("MuJoCo", "mujoco_version"), ("Gymnasium", "gymnasium_version"))
    given = [f"{what} {_text(attributes[key])}" for what, key in versions if key in attributes]
    d4rls = file_name in {file.name for file in catalogue().values()}
    return ", ".join(given) or (_D4RL_PHYSICS if d4rls else "")


def _text(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _env_id(attributes: Mapping[str, Any]) -> str | None:
    """The environment that a file names, if that is a Gymnasium id."""
    text = _text(attributes.get("env_id", attributes.get("env")))
    return text if ENV_ID.fullmatch(text) else None


def _number(value: Any) -> float:
    """The attribute as a number, NaN if it is none; a one-element array counts as its element."""
    try:
        return float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        return float("nan")


def _registered_limit(env_id: str | None) -> int | None:
    """The time limit that Gymnasium has for an environment, if both are known."""
    try:
        import gymnasium
    except ImportError:
        return None
    known = gymnasium.registry.get(env_id)
    return None if known is None else known.max_episode_steps
