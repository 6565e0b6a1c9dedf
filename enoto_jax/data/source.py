"""Where data comes from: a D4RL or Minari id, a file, arrays, the small data set in the package,
or several of them in a row."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import d4rl, files, minari, scores
from enoto_jax.data.download import catalogue, resolve
from enoto_jax.types import InputError, Spec, Transition

ASSETS = Path(__file__).with_name("assets")
_SUFFIXES = (".hdf5", ".h5", ".npz")
# A plain Gymnasium id; "module:Id-v0" would import code that a data file names, so it is none.
_ENV_ID = re.compile(r"([\w-]+/)?[\w-]+-v\d+")
# Where one data set of a list ends and the next begins: a + after a suffix or an id's version.
_PLUS = re.compile(r"(?i)(?<=\.hdf5)\+|(?<=\.h5)\+|(?<=\.npz)\+|(?<=-v\d)\+|(?<=-v\d\d)\+")
_D4RL_PHYSICS = "MuJoCo of the 2.0 era through mujoco-py (as D4RL recorded it)"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Transitions `[M, ...]` as numpy arrays, float32 and bool, in the order they were recorded.

    An episode's last transition, and no other, is terminated or truncated. (In AntMaze every row at
    the goal is terminal, so each is an episode: read successes, not returns, off such data.)
    """

    transitions: Transition
    content_hash: str  # "sha256:..." over the transitions

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
    # Flat arrays as `arrays.clean` returns them, or the sources that this one consists of.
    read: Callable[[], Mapping[str, np.ndarray]] | None = field(default=None, repr=False)
    parts: tuple[Source, ...] = ()

    def load(self) -> Dataset:
        """Reads and checks the data, once.

        Raises:
            InputError: if the file or its numbers cannot be used.
        """
        return self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        transitions = self._transitions()
        return Dataset(transitions, flat.content_hash(transitions))

    def sample(self, count: int) -> Transition | None:
        """The same `count` transitions every time, all of a smaller set; None without data.

        The data set is read for them where `load` has not, and not kept.

        Raises:
            InputError: as `load` does.
        """
        if self.read is None and not self.parts:
            return None
        kept = self.__dict__.get("_dataset")
        whole = kept.transitions if kept else self._transitions()
        total = len(whole.reward)
        rows = np.random.default_rng(0).choice(total, min(count, total), replace=False)
        return Transition(*(array[rows] for array in whole[:6]))

    def _transitions(self) -> Transition:
        if self.parts:
            return _joined([part._transitions() for part in self.parts])
        if self.read is None:
            raise InputError(f"{self.name}: only an environment, no data; give --task a data set")
        return flat.to_transitions(self.read(), self.max_episode_steps, self.path or self.name)

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


def load_source(task: str | os.PathLike | None = None, *, download: bool = True) -> Source:
    """Finds a data set; its numbers are read by the source's `load`.

    Args:
        task: a D4RL id (`hopper-medium-v2`), `minari:` and the id of a Minari data set, the path of
            an `.hdf5`, `.h5` or `.npz` file in D4RL's layout, several of these joined by `+`, or
            nothing for the data set that ships with the package.
        download: whether a data set that is named by its id and is not there may be fetched.

    Raises:
        InputError: if the id is unknown, or the file is missing or unusable.
    """
    sources = [from_place(locate(part, download=download)) for part in split(task)]
    return sources[0] if len(sources) == 1 else concatenate(sources)


def split(task: str | os.PathLike | None) -> list[str]:
    """The data sets that a task names: `a.hdf5+b.hdf5` is two, unless a file has that very name."""
    task = os.fspath(task or "")
    return [task] if os.path.isfile(os.path.expanduser(task)) else _PLUS.split(task)


class Place(NamedTuple):
    """Where a data set lies, and how it is opened."""

    opened: files.Opener
    path: Path
    name: str
    in_family: bool = True  # whether the name can mean one of D4RL's environments


def locate(task: str, *, download: bool = True) -> Place:
    """Finds one data set without reading it; arguments and errors as in `load_source`."""
    if not task:
        path = _bundled()
        return Place(d4rl.opened, path, path.stem)
    if task.startswith(minari.PREFIX):
        name = task.removeprefix(minari.PREFIX)
        # Minari's tasks have other physics: D4RL's reference returns are not theirs.
        return Place(minari.opened, minari.resolve(name, download=download), name, False)
    path = Path(os.path.expanduser(task))
    if path.suffix.lower() in _SUFFIXES:
        return Place(d4rl.opened, path, path.stem)
    return Place(d4rl.opened, resolve(task, download=download), task)


def from_place(place: Place) -> Source:
    """The source that lies there; raises as `load_source` does."""
    opened, path, name, in_family = place
    header = files.peek(opened, path)
    env_id = _env_id(header.attributes)
    family_name = (env_id or name) if in_family else ""
    read = partial(files.read, opened, path)
    return _described(
        name, header.spec, header.attributes, env_id, family_name, path=path, read=read
    )


def concatenate(sources: Sequence[Source]) -> Source:
    """Makes one source of several, in their order, as medium-expert is medium and then expert.

    Raises:
        InputError: if they are of different tasks: sizes, environments or reference returns differ.
    """
    if not sources:
        raise InputError("no sources to concatenate; give at least one")
    name = "+".join(source.name for source in sources)
    known: dict[str, Any] = {}
    for what in ("spec", "env_id", "reference"):
        known[what] = None
        for source in sources:
            value = getattr(source, what)
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
        **known,
    )


def _common(texts) -> str:
    return " + ".join(dict.fromkeys(texts))


def _joined(parts: list[Transition]) -> Transition:
    """The transitions of all parts, a field at a time, so that little is held twice."""
    fields = [list(part[:6]) for part in parts]
    return Transition(*(np.concatenate([part.pop(0) for part in fields]) for _ in range(6)))


def from_arrays(
    observations,
    actions,
    rewards,
    terminals,
    timeouts=None,
    next_observations=None,
    *,
    name: str,
    env_id: str | None = None,
    reference: tuple[float, float] | None = None,
) -> Source:
    """Makes a source of arrays in memory; they are checked at once and must not change afterwards.

    Arrays in float32 and bool are not copied where no row has to be left out.

    Args:
        observations: [N, D], one row a step, episodes one after the other.
        actions: [N, A] in [-1, 1].
        rewards: [N].
        terminals: [N], 1 where the task ended (no bootstrap).
        timeouts: [N], 1 where a time limit cut the episode; without it see `to_transitions`.
        next_observations: [N, D], the true successors; without it the following row's observation.
        name: how results call the data set.
        env_id: Gymnasium id to evaluate in.
        reference: returns of a random and of an expert policy, for scores; default: D4RL's, if
            `env_id` is one of D4RL's environments.

    Raises:
        InputError: if the arrays cannot be used.
    """
    given = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": next_observations,
    }
    try:
        arrays = {key: np.asarray(array) for key, array in given.items() if array is not None}
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name}: {error}; every array needs rows of one length") from error
    spec = flat.check_layout(arrays, name)
    attributes = dict(zip(("ref_min_score", "ref_max_score"), reference or (), strict=False))
    read = partial(_clean, arrays, name)
    source = _described(name, spec, attributes, env_id, env_id or "", read=read)
    source.load()
    return source


def from_env(env_id: str, spec: Spec) -> Source:
    """A task without data, for rows that train online only.

    Args:
        env_id: Gymnasium id; its name in results, and the key to D4RL's reference returns.
        spec: its sizes.
    """
    return _described(env_id, spec, {}, env_id, env_id)


def _clean(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The user's arrays, checked; they are shown as read-only, so that nothing is done to them."""
    views = {key: array.view() for key, array in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return flat.clean(views, name)


def _bundled() -> Path:
    found = sorted(ASSETS.glob("*.hdf5"))
    if len(found) != 1:
        raise InputError(
            f"{ASSETS}: holds {len(found)} .hdf5 files instead of the one that ships with the "
            "package; give a D4RL id or the path of a data set"
        )
    return found[0]


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
        reference = tuple(_number(bound) for bound in bounds)
        if len(reference) != 2 or not np.isfinite(reference).all() or reference[0] >= reference[1]:
            raise InputError(
                f"{where}: ref_min_score and ref_max_score must both be given, as numbers, the "
                f"smaller first; got {', '.join(repr(str(b)) for b in bounds)}"
            )
    limit = family.max_episode_steps if family else _registered_limit(env_id)
    if "max_episode_steps" in attributes:
        limit = _number(attributes["max_episode_steps"])
        if limit < 1 or not limit.is_integer():
            raise InputError(
                f"{where}: max_episode_steps must be a whole number of steps, "
                f"got {str(attributes['max_episode_steps'])!r}"
            )
        limit = int(limit)
    version = re.search(r"-(v\d+)$", name)
    return Source(
        name=name,
        version=version[1] if version else "",
        spec=spec,
        env_id=env_id or (family and family.env_id),
        max_episode_steps=limit,
        reference=reference,
        physics=_physics(attributes, "path" in content and content["path"].name),
        notes=tuple(map(_text, attributes.get("notes", ()))),
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
    return text if _ENV_ID.fullmatch(text) else None


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
    return known and known.max_episode_steps
