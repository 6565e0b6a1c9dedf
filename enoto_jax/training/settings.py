"""How a recipe is trained: the options of `train`, and their defaults."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from enoto_jax.data.source import Source
from enoto_jax.envs.choice import EnvChoice, env_choice
from enoto_jax.envs.gym import Env
from enoto_jax.recipes.units import nearest
from enoto_jax.runs import dashboards
from enoto_jax.training.evaluate import check_number
from enoto_jax.training.record import Watch
from enoto_jax.types import InputError

MOST_SEEDS = 10_000  # in one process


class Options(TypedDict, total=False):
    """Options of `train`, as an editor shows them. `Settings` explains them."""

    seeds: int | Sequence[int]
    env: Env | None
    eval_episodes: int
    final_episodes: int | None
    restore: str | os.PathLike | None
    log: str | Sequence[str]
    about: Mapping[str, Any] | None
    plugins: str | Sequence[str]
    signals: bool
    announce: str
    watch: Watch | None
    keep: int
    eval_processes: int
    eval_max_steps: int | None


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options with their defaults, checked.

    Attributes:
      seeds: How many seeds, numbered from 0, or their numbers; they train together in one program.
      env: Gymnasium id, class, function or EnvSpec (`envs.choice`); the source's own by default;
        "none" stops at the hand-over.
      eval_episodes: Episodes per evaluation and seed.
      final_episodes: Episodes of the evaluations on both sides of the hand-over and of the last
        one; None: `eval_episodes`.
      restore: Another run's folder: start from its hand-over instead of an offline phase.
      log: "tensorboard", "wandb", or several of them; CSV files are always written.
      about: Further entries of config.json.
      plugins: Modules that register units of your own; config.json records them. The modules of the
        recipe's own units are found without it.
      signals: Whether SIGTERM and SIGINT save and raise Stopped.
      announce: A text that is printed, with a description of the data, once everything is checked
        and training begins; "" prints neither.
      watch: Called after every evaluation with (phase, step, train state on the host [S, ...],
        returns [S, E]).
      keep: How many of the newest checkpoints are kept.
      eval_processes: How many processes step the environments of an evaluation; see `envs.workers`.
      eval_max_steps: Steps after which an evaluation episode is cut off; None: the environment's
        time limit, or 10,000 without one.

    Raises:
      InputError: A value is invalid.
    """

    seeds: int | Sequence[int] = (0,)
    env: Env | None = None
    eval_episodes: int = 10
    final_episodes: int | None = None
    restore: str | os.PathLike | None = None
    log: str | Sequence[str] = ()
    about: Mapping[str, Any] | None = None
    plugins: str | Sequence[str] = ()
    signals: bool = False
    announce: str = ""
    watch: Watch | None = None
    keep: int = 2
    eval_processes: int = 1
    eval_max_steps: int | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "seeds", seed_numbers(self.seeds))
        if self.final_episodes is None:
            put(self, "final_episodes", self.eval_episodes)
        for name in ("eval_episodes", "final_episodes", "keep", "eval_processes"):
            check_number(name, getattr(self, name))
        if self.eval_max_steps is not None:
            check_number("eval_max_steps", self.eval_max_steps)
        for name in ("log", "plugins"):
            put(self, name, _names(name, getattr(self, name)))
        dashboards.check(self.log)
        if self.env is not None:
            env_choice(self.env)
        if self.restore is not None and not isinstance(self.restore, str | os.PathLike):
            raise InputError(f"--restore: {self.restore!r}; give the folder of a run")
        if self.about is not None and not isinstance(self.about, Mapping):
            raise InputError(f"about: {self.about!r}; give a dictionary")
        if not isinstance(self.announce, str):
            raise InputError(f"announce: {self.announce!r}; give a text")
        if self.watch is not None and not callable(self.watch):
            raise InputError(f"watch: {self.watch!r}; give a function")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Make settings from a function's keyword arguments.

        Raises:
          InputError: A name or a value is invalid; for a name, the message lists the nearest ones.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise InputError(f"train has no option {name!r}{nearest(name, known)}")
        return cls(**options)

    def env_of(self, source: Source) -> Env | None:
        """Return the environment; None without a simulator."""
        if isinstance(self.env, str) and self.env == "none":
            return None
        if self.env is None and source.env_id is not None and source.env_kwargs:
            return EnvChoice(source.env_id, source.env_kwargs)
        return source.env_id if self.env is None else self.env

    @property
    def numbers(self) -> tuple[int, ...]:
        """The seeds' numbers."""
        return cast(tuple[int, ...], self.seeds)

    @property
    def restored(self) -> Path | None:
        """The folder that is restored."""
        return None if self.restore is None else Path(self.restore)


def seed_numbers(seeds: Any) -> tuple[int, ...]:
    """Return the seeds' numbers.

    Args:
      seeds: How many, numbered from 0, or their numbers.

    Raises:
      InputError: There are none or too many, one is repeated, or one is not a whole number from 0
        to 2^31 - 1.
    """
    if _is_whole(seeds):
        if not 1 <= seeds <= MOST_SEEDS:
            raise InputError(f"--seeds: {seeds}; give at least 1 seed and at most {MOST_SEEDS}")
        return tuple(range(int(seeds)))
    try:
        found = [] if isinstance(seeds, str | bytes) else list(seeds)
    except TypeError:
        found = [None]
    if isinstance(seeds, str | bytes) or not all(map(_is_whole, found)):
        raise InputError(f"--seeds: {seeds!r}; give how many, or a list of whole numbers")
    found = [int(seed) for seed in found]
    if not found:
        raise InputError("--seeds: give at least 1 seed")
    if min(found) < 0 or max(found) >= 2**31:
        raise InputError(f"--seed: seeds must lie between 0 and {2**31 - 1}")
    if len(found) > MOST_SEEDS:
        raise InputError(f"--seeds: {len(found)} seeds are too many; give at most {MOST_SEEDS}")
    if twice := [seed for i, seed in enumerate(found) if seed in found[:i]]:
        raise InputError(f"--seeds: seed {twice[0]} is given twice; give each seed once")
    return tuple(found)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _names(option: str, value: Any) -> tuple[str, ...]:
    """Return names as a tuple; a text is one name.

    Raises:
      InputError: The value is neither a name nor a list of names.
    """
    if isinstance(value, str):
        return (value,)
    try:
        found = tuple(value)
    except TypeError:
        found = (None,)
    if not all(isinstance(name, str) for name in found):
        raise InputError(f"{option}: {value!r}; give a name, or a list of names")
    return found
