"""Data sets from a finished run: its replay buffer, or a roll-out of its policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from enoto_jax.data.arrays import unscaled
from enoto_jax.data.write import recording_attributes, write_d4rl
from enoto_jax.envs import rollout
from enoto_jax.envs.gym import env_spec
from enoto_jax.recipes import plugins
from enoto_jax.recipes.building import build
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.folder import OWN, config_of
from enoto_jax.runs.policies import bounds_of
from enoto_jax.runs.templates import abstract, template
from enoto_jax.training import carried, online
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, Spec, Transition, plural

KINDS = ("replay", "policy")


def record(
    folder: Path,
    out: Path,
    kinds: Iterable[str],
    rows: int,
    seed: int,
    say: Callable[[str], None],
    expert: float | None = None,
) -> None:
    """Write data sets in D4RL's layout from a run of any method.

    Args:
      folder: The run's folder.
      out: The folder in which each KIND.hdf5 is written.
      kinds: Some of `KINDS`.
      rows: Steps of the roll-out, and the most that are taken from the buffer.
      seed: The roll-out's seed.
      say: Called with a line about each file.
      expert: The return that scores 100; a random policy's scores 0. None keeps the run's own
        reference returns, if it has any.

    Raises:
      InputError: The run has no checkpoint of an online phase, or it cannot be used; or `expert` is
        not above a random policy's return.
    """
    kept = first_seed(folder, act_too="policy" in kinds)
    config = kept.config
    env_id, reference = config.get("env", "none"), config.get("reference")
    if expert is not None:
        reference = (_random_return(env_id, expert), expert)
    versions = config.get("versions", {})
    about = recording_attributes(env_id, reference, config["seeds"][0], versions)
    if env_id == "none":
        low, high = bounds_of(folder, kept.buffer.action.shape[1])
        about |= {"action_low": low, "action_high": high}
    for kind in kinds:
        more: dict[str, Any] = {"metadata/algorithm": config.get("method", OWN)}
        if kind == "policy":
            transitions, infos, _ = rollout.rollout(env_id, kept.act, rows, seed)
            more |= {f"infos/{k}": v for k, v in infos.items()}
        else:
            transitions = first_rows(kept.buffer, rows)
            if env_id == "none":  # in the robot's units, which the file's bounds scale back
                action = unscaled(transitions.action, (low, high))
                transitions = transitions._replace(action=np.clip(action, low, high))
        path = out / f"{kind}.hdf5"
        write_d4rl(path, transitions, about, more)
        count = plural(len(transitions.reward), "row")
        say(f"{path}: {count}, {path.stat().st_size / 1e6:.2f} MB")


def _random_return(env_id: str, expert: float) -> float:
    """The mean return of random actions, which must be below the expert's."""
    if env_id == "none":
        raise InputError("--reference: the run has no environment to measure random's return in")
    actions = rollout.uniform(env_spec(env_id).action_size)
    random = float(rollout.rollout(env_id, actions, 10_000, 0).returns.mean())
    if not expert > random:
        raise InputError(f"--reference: {expert:g} is not above random's return, {random:.1f}")
    return random


class Trained(NamedTuple):
    """What the first seed of a finished run has kept.

    Attributes:
      buffer: Transitions [M, ...] in world units, oldest first.
      act: The last policy; its actions are sampled.
      config: The run's `config.json`.
    """

    buffer: Transition
    act: rollout.ActFn
    config: dict[str, Any]


def first_seed(folder: Path, act_too: bool = False) -> Trained:
    """Read a finished run's first seed.

    Args:
      folder: The run's folder.
      act_too: Whether `act` will be called; policies that act in chunks do not support it.

    Raises:
      InputError: The run has no checkpoint of an online phase, or it cannot be used.
    """
    config = config_of(folder)
    row = plugins.recipe_of(config, str(folder))
    if act_too and config.get("env", "none") == "none":
        raise InputError(
            f"--run: {folder} has no environment to act in; collect only its buffer, with "
            "--kinds=replay"
        )
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.record()
    if found is None or found["phase"] != "online":
        raise InputError(f"--run: {folder} has no checkpoint of an online phase")
    transform = Transform.from_json(found["transform"])
    spec = Spec(len(transform.observation_shift), len(transform.action_shift))
    built = build(row, spec)
    if found["step"] > built.replay.capacity:
        raise InputError(f"--run: {folder} has overwritten its oldest transitions")
    if built.replay.prioritised:
        raise InputError(f"--run: {folder} samples by priority, which collect does not support")
    if built.online.open_loop is not None and act_too:
        raise InputError(
            f"--run: {folder} acts in chunks; collect only its buffer, with --kinds=replay"
        )
    begin = online.begin(built.online, built.replay, spec, row.online.batch_size)
    shapes = template(lambda: begin(abstract(built.online), np.int32(0)), len(config["seeds"]))
    saved = checkpoints.restore(carried.saved_template(shapes, found["step"]))
    checkpoints.close()
    one = jax.tree.map(lambda x: np.asarray(x)[0], saved)
    sample = jax.jit(
        lambda state, seed, seen: built.online.act(state, jax.random.key(seed), seen, 1)
    )
    state = jax.device_put(one.train)

    def act(observation, rng):
        seen = np.float32(transform.observation(observation))
        action = sample(state, np.uint32(rng.integers(2**32)), seen)[0]
        return transform.world_action(np.asarray(action)), np.nan

    return Trained(transform.world(one.storage.ring), act, config)


def first_rows(transitions: Transition, rows: int) -> Transition:
    """Return the oldest transitions, or all if there are fewer."""
    return jax.tree.map(lambda x: x[:rows], transitions)
