"""How a recipe is trained, beside the recipe: options of `train`, and their defaults."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from enoto_jax.data.source import Source
from enoto_jax.runs import dashboards
from enoto_jax.training.record import Watch
from enoto_jax.types import InputError


class Options(TypedDict, total=False):
    """Options of `train`, as an editor shows them. `Settings` explains them."""

    seeds: Sequence[int]
    env: str | None
    eval_episodes: int
    restore: str | os.PathLike | None
    log: Sequence[str]
    about: Mapping[str, Any] | None
    signals: bool
    announce: str
    watch: Watch | None
    keep: int
    eval_processes: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """The same with their defaults, checked.

    Attributes:
      seeds: their numbers; trained together in one program.
      env: Gymnasium id; the source's own by default; "none" stops at the hand-over.
      eval_episodes: episodes per evaluation and seed.
      restore: another run's folder: start from its hand-over instead of an offline phase.
      log: "tensorboard", "wandb"; CSV files are always written.
      about: further entries of config.json.
      signals: SIGTERM and SIGINT save and raise Stopped.
      announce: printed once everything is checked and training begins.
      watch: called after every evaluation with (phase, step, train state on the host [S, ...],
        returns [S, E]).
      keep: how many of the newest checkpoints are kept.
      eval_processes: that step the environments of an evaluation, see `envs.workers`.

    Raises:
      InputError: a value that is no setting.
    """

    seeds: Sequence[int] = (0,)
    env: str | None = None
    eval_episodes: int = 10
    restore: str | os.PathLike | None = None
    log: Sequence[str] = ()
    about: Mapping[str, Any] | None = None
    signals: bool = False
    announce: str = ""
    watch: Watch | None = None
    keep: int = 2
    eval_processes: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        if not self.seeds:
            raise InputError("--seeds: at least 1 seed is trained")
        if min(self.seeds) < 0 or max(self.seeds) >= 2**31:
            raise InputError(f"--seed: seeds lie between 0 and {2**31 - 1}")
        if self.keep < 1:
            raise InputError(f"--keep: {self.keep}; at least 1 checkpoint is kept")
        if self.eval_processes < 1:
            raise InputError(
                f"--eval_processes: {self.eval_processes}; at least 1 steps environments"
            )
        dashboards.check(self.log)

    def env_id(self, source: Source) -> str | None:
        """The environment's id; None: no simulator."""
        return None if self.env == "none" else self.env or source.env_id

    @property
    def restored(self) -> Path | None:
        """The folder that is restored."""
        return None if self.restore is None else Path(self.restore)
