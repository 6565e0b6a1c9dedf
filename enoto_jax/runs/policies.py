"""The policies that a run has kept: the latest, the best, and the hand-over's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from enoto_jax import core
from enoto_jax.envs import values
from enoto_jax.envs.gym import action_bounds
from enoto_jax.recipes import plugins
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import hand_over
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.folder import config_of
from enoto_jax.runs.starts import handed_over, start_of
from enoto_jax.runs.streams import stream
from enoto_jax.runs.templates import abstract, template
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, Spec, check_choice

KINDS = ("latest", "best", "handover")
_OLD_NAMES = {"last": "latest"}  # names used by earlier versions


class Kept(NamedTuple):
    """What is needed from a checkpoint to act, for one seed or all of them.

    Attributes:
      algorithm: The algorithm whose `mode` chooses actions.
      state: Its train state, host arrays.
      transform: Transform between the environment's units and the agent's.
      kind: Which of the run's checkpoints this is, one of KINDS.
      phase: Offline or online.
      step: The step of that phase.
      seed: The seed; None: all of the run's seeds.
      config: The run's config.
    """

    algorithm: core.Algorithm
    state: core.TrainState
    transform: Transform
    kind: str
    phase: str
    step: int
    seed: int | None
    config: dict[str, Any]


class Policy:
    """The policy of one seed of a run.

    Args:
      found: What the run has kept of the seed.
      low: Lowest action [A] of the environment that it acts in, or one number for all.
      high: Highest action, likewise.

    Attributes:
      phase: Offline or online.
      step: The step of that phase: updates offline, environment steps online.
      seed: The seed.
      action_low: Lowest action [A], float32.
      action_high: Highest action [A].
    """

    def __init__(self, found: Kept, low: ArrayLike = -1.0, high: ArrayLike = 1.0):
        self.phase, self.step, self.seed = found.phase, found.step, found.seed
        size = len(found.transform.action_shift)
        self.action_low, self.action_high = (np.full(size, x, np.float32) for x in (low, high))
        self._transform, self._algorithm = found.transform, found.algorithm
        self._state = jax.device_put(found.state)
        self._mode = jax.jit(found.algorithm.mode)
        self._drawn: Callable | None = None

    def __repr__(self) -> str:
        return f"Policy(seed={self.seed}, phase={self.phase!r}, step={self.step})"

    def act(self, observation: Any) -> np.ndarray:
        """Choose the deterministic action for an observation, or for each of a batch.

        Args:
          observation: The environment's own observation, not transformed: [D], or [..., D] for a
            batch.

        Returns:
          The action [A] or [..., A], float32, in the environment's own units.

        Raises:
          InputError: The observation has another size, is a dictionary or is not finite; or the
            policy chooses chunks of actions, see `actions`.
        """
        self._check_single()
        return self._in_world(self._mode(self._state, self._seen(observation)))

    def actions(self, observation: Any) -> np.ndarray:
        """Choose the deterministic actions of the next steps, to be taken one after the other.

        Args:
          observation: The observation at the first of these steps, as in `act`.

        Returns:
          [h, A] or [..., h, A]; h is 1, or the length of the method's chunks. Drop the remaining
          actions when an episode ends.

        Raises:
          InputError: The observation has another size, is a dictionary or is not finite.
        """
        chosen = np.asarray(self._mode(self._state, self._seen(observation)))
        return self._in_world(chosen.reshape(*chosen.shape[:-1], -1, self.action_low.size))

    def _check_single(self) -> None:
        if (chunk := self._algorithm.open_loop) is not None:
            raise InputError(
                f"this policy chooses {chunk.length} actions at once: call actions(observation) "
                "and take them one after the other"
            )

    def sample(self, observation: Any, seed: int = 0) -> np.ndarray:
        """Sample an action from the policy for an observation, or one for each of a batch.

        Args:
          observation: As in `act`.
          seed: Seed of the draw; the same seed gives the same action.

        Returns:
          As `act`.

        Raises:
          InputError: As in `act`.
        """
        self._check_single()
        seen = self._seen(observation)
        if self._drawn is None:
            act = self._algorithm.act
            each = jax.vmap(lambda state, key, x: act(state, key, x, 1)[0], (None, 0, 0))
            self._drawn = jax.jit(each)
        rows = seen.reshape(-1, seen.shape[-1])
        keys = jax.random.split(jax.random.key(seed), len(rows))
        drawn = np.asarray(self._drawn(self._state, keys, rows))
        return self._in_world(drawn.reshape(*seen.shape[:-1], drawn.shape[-1]))

    def _seen(self, observation: Any) -> np.ndarray:
        size = len(self._transform.observation_shift)
        if isinstance(observation, Mapping):
            raise InputError(
                f"observation: a dictionary of {', '.join(map(str, observation))}; put its arrays "
                f"side by side, as one row of {size} numbers"
            )
        try:
            given = np.asarray(observation, np.float32)
        except (TypeError, ValueError):
            given = None
        if given is None or given.ndim == 0 or given.shape[-1] != size:
            kind = type(observation).__name__ if given is None else f"shape {list(given.shape)}"
            raise InputError(f"observation: {kind}; expected [{size}] or [..., {size}] numbers")
        if not np.isfinite(given).all():
            raise InputError("observation contains NaN or infinity")
        return np.asarray(self._transform.observation(given), np.float32)

    def _in_world(self, action: Any) -> np.ndarray:
        action, (low, high) = np.asarray(action), (self.action_low, self.action_high)
        action = self._transform.world_action(action)
        raw = 0.5 * (low + high) + 0.5 * (high - low) * action
        return np.asarray(np.clip(raw, low, high), np.float32)


def load_policy(
    folder: str | os.PathLike, seed: int | None = None, which: str = "latest"
) -> Policy:
    """Load a policy that a run has kept, in the units of the run's environment.

    Args:
      folder: The folder of a run, or of an Agent.
      seed: One of the run's seeds; the first by default.
      which: "latest" (the newest checkpoint), "best" (of the best evaluation) or "handover" (the
        end of the offline phase; without one, the untrained policy that the run began with).

    Returns:
      The policy, as in `load_policy(folder).act(observation)`.

    Raises:
      InputError: The run, seed or checkpoint does not exist, or is damaged.
    """
    try:
        folder = Path(folder)
    except TypeError as error:
        raise InputError(f"load_policy: {folder!r}; give the folder of a run") from error
    found = kept(folder, which, seed)
    return Policy(found, *bounds_of(folder, len(found.transform.action_shift)))


def kind_of(which: str) -> str:
    """Return one of KINDS, which may be given by its old name.

    Raises:
      InputError: The name is unknown.
    """
    kind = _OLD_NAMES.get(which, which)
    check_choice("--which", kind, KINDS)
    return kind


def bounds_of(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest action [A], as the run recorded them, or its environment's.

    Raises:
      InputError: The bounds cannot be read, or the environment cannot be made.
    """
    config = config_of(folder)
    known = config.get("action_bounds")
    if known is None:
        return action_bounds(config.get("env"), size)
    try:
        low, high = (values.row(bound, (size,)) for bound in known)
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: its action_bounds cannot be read: {error}") from error
    return low, high


def kept(folder: Path, which: str = "latest", seed: int | None = None) -> Kept:
    """Load what a run has kept of one seed, without its replay.

    Args:
      folder: The folder of the run, or of an Agent.
      which: See `load_policy`.
      seed: One of the run's seeds; the first by default.

    Raises:
      InputError: The run has no such checkpoint or seed, or the checkpoint is damaged.
    """
    seeds = config_of(folder)["seeds"]
    seed = seeds[0] if seed is None else seed
    if seed not in seeds:
        raise InputError(f"--seed: {folder} trained seeds {seeds}, not {seed}")
    found = kept_seeds(folder, which)
    row = found.config["seeds"].index(seed)
    return found._replace(state=jax.tree.map(lambda x: x[row], found.state), seed=seed)


def kept_seeds(folder: Path, which: str = "latest") -> Kept:
    """Load the same for all seeds: `state` has arrays [S, ...], and `seed` is None.

    If a run of an older version restored another run, the hand-over is that run's, and so are
    `config` and the seeds.

    Raises:
      InputError: The run has no such checkpoint, or it is damaged.
    """
    kind, config = kind_of(which), config_of(folder)
    if kind == "handover" and (start := start_of(folder, config)):
        folder = handed_over(folder, start)
        config = config_of(folder)
    recipe = plugins.recipe_of(config, str(folder))
    untrained = kind == "handover" and recipe.offline is None
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        record = _record(checkpoints, folder, "latest" if untrained else kind)
        transform = Transform.from_json(record["transform"])
        spec = Spec(len(transform.observation_shift), len(transform.action_shift))
        built, seeds = build(recipe, spec), config["seeds"]
        phase, step = ("online", 0) if untrained else (record["phase"], record["step"])
        algorithm = getattr(built, phase)
        shapes = template(lambda: abstract(algorithm), len(seeds))
        if untrained:
            begin = jax.vmap(lambda s: hand_over(built, stream(s, "handover"), None, None))
            state = begin(np.int32(seeds))
        elif kind == "latest" and phase == "online":
            state = checkpoints.restore_part({"train": shapes})["train"]
        else:
            state = checkpoints.restore(shapes, kind)
    state = jax.tree.map(np.asarray, state)
    return Kept(algorithm, state, transform, kind, phase, step, None, config)


def _record(checkpoints: Checkpoints, folder: Path, kind: str) -> dict[str, Any]:
    found = checkpoints.record(kind)
    if found is None:
        of = {"handover": "of its hand-over", "best": "of an evaluation"}.get(kind, "yet")
        raise InputError(
            f"{folder} has no checkpoint {of}; train it further, or choose another kind"
        )
    return found
